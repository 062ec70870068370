#if PostgreSQL
extension SQLValue {
    fileprivate var isBlob: Bool { if case .blob = self { true } else { false } }
}

/// The values of a statement as libpq takes them: texts that end with a zero, and blobs. A connection keeps one, so
/// that binding allocates nothing once the memory is there.
@safe
struct PostgresParameters {
    private var bytes: [UInt8] = []
    /// Where each value begins; -1 for NULL.
    private var places: [Int] = []
    /// libpq reads those of blobs.
    private var lengths: [Int32] = []
    /// 0: text, which the server reads as whatever type the statement wants. 1: the bytes of a blob.
    private var formats: [Int32] = []
    // SAFETY: filled with pointers into `bytes` for a call, while nothing changes those.
    private var pointers: [UnsafePointer<CChar>?] = unsafe []

    /// - Throws: `SQLError`, if there are too many, or a text has a zero in it: PostgreSQL has no such texts, and libpq
    ///   would cut it there.
    mutating func set(_ query: SQLQuery) throws(SQLError) {
        bytes.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        formats.removeAll(keepingCapacity: true)
        guard query.values.count <= 65_535 else {
            throw SQLError("run", query.text, .invalid("\(query.values.count) values are more than the 65535 possible"))
        }
        for (index, value) in query.values.enumerated() {
            places.append(value.isNull ? -1 : bytes.count)
            formats.append(value.isBlob ? 1 : 0)
            let start = bytes.count
            append(value)
            lengths.append(Int32(clamping: bytes.count - start))
            if case .text = value, bytes[start...].contains(0) {
                throw SQLError(
                    "run", query.text, .invalid("the text for $\(index + 1) has a NUL in it: bind it as [UInt8]"))
            }
            bytes.append(0)
        }
    }

    private mutating func append(_ value: SQLValue) {
        switch value {
        case .null: break
        case .boolean(let value): bytes.append(UInt8(ascii: value ? "t" : "f"))
        case .integer(let value): append(value)
        case .real(let value): bytes.append(contentsOf: "\(value)".utf8)
        case .text(let text): bytes.append(contentsOf: text.utf8)
        case .blob(let blob): bytes.append(contentsOf: blob)
        }
    }

    private mutating func append(_ value: Int64) {
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        var scale: UInt64 = 1
        while value.magnitude / scale >= 10 { scale *= 10 }
        while scale > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value.magnitude / scale % 10))
            scale /= 10
        }
    }

    /// Calls `body` with what libpq's sending functions take.
    mutating func withPointers(
        _ body: (
            Int32, UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?
        ) -> Int32
    ) -> Int32 {
        unsafe bytes.withUnsafeBytes { bytes in
            let start = unsafe bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            unsafe pointers.removeAll(keepingCapacity: true)
            for place in places { unsafe pointers.append(place < 0 ? nil : start! + place) }
            return unsafe pointers.withUnsafeBufferPointer { pointers in
                unsafe lengths.withUnsafeBufferPointer { lengths in
                    unsafe formats.withUnsafeBufferPointer { formats in
                        unsafe body(
                            Int32(places.count), pointers.baseAddress, lengths.baseAddress, formats.baseAddress)
                    }
                }
            }
        }
    }
}
#endif
