// How a frame says how long it is.

/// Which byte of a number comes first.
public enum ByteOrder: Sendable, Hashable {
    /// The most significant one: network order.
    case bigEndian
    /// The least significant one.
    case littleEndian
}

/// The form of the number before a frame that says how many bytes follow it.
public enum FrameLength: Sendable, Hashable {
    /// One byte: frames of up to 255 bytes.
    case uint8
    /// Two bytes: up to 65,535.
    case uint16(ByteOrder = .bigEndian)
    /// Four bytes: up to 4,294,967,295.
    case uint32(ByteOrder = .bigEndian)
    /// Seven bits a byte, the lowest first, and the highest bit says that more follow (LEB128, as in Protocol Buffers):
    /// one to ten bytes.
    case varint

    /// The most bytes that the number takes.
    static let longest = 10

    /// The fewest bytes that the number takes.
    var shortest: Int {
        switch self {
        case .uint8, .varint: 1
        case .uint16: 2
        case .uint32: 4
        }
    }

    /// What the first bytes of a frame say.
    enum Reading: Equatable {
        case length(Int)
        case needsMore
        /// The number does not end where it must.
        case malformed
    }

    /// Reads the number that `prefix` is, which has at least `shortest` bytes.
    func read(_ prefix: [UInt8]) -> Reading {
        switch self {
        case .uint8: return .length(Int(prefix[0]))
        case .uint16(let order), .uint32(let order):
            let digits = order == .bigEndian ? prefix : prefix.reversed()
            return .length(digits.reduce(0) { $0 << 8 | Int($1) })
        case .varint:
            var value: UInt64 = 0
            for (index, byte) in prefix.enumerated() {
                // The tenth byte has room for one bit.
                if index == Self.longest - 1, byte > 1 { return .malformed }
                value |= UInt64(byte & 0x7f) << UInt64(7 * index)
                if byte & 0x80 == 0 { return .length(Int(clamping: value)) }
            }
            return .needsMore
        }
    }

    /// The bytes that stand for `count`; nil if it does not fit.
    func bytes(for count: Int) -> [UInt8]? {
        switch self {
        case .uint8: return UInt8(exactly: count).map { [$0] }
        case .uint16(let order): return UInt16(exactly: count).map { Self.bytes(of: $0, order) }
        case .uint32(let order): return UInt32(exactly: count).map { Self.bytes(of: $0, order) }
        case .varint:
            var bytes: [UInt8] = []
            var rest = UInt64(count)
            while rest > 0x7f {
                bytes.append(UInt8(rest & 0x7f) | 0x80)
                rest >>= 7
            }
            return bytes + [UInt8(rest)]
        }
    }

    private static func bytes(of number: some FixedWidthInteger, _ order: ByteOrder) -> [UInt8] {
        let shifts = stride(from: number.bitWidth - 8, through: 0, by: -8)
        let digits = shifts.map { UInt8(truncatingIfNeeded: number >> $0) }
        return order == .bigEndian ? digits : digits.reversed()
    }
}
