// Which bytes of a file a client wants: `Range` (RFC 9110, 14.1).

/// What a `Range` field asks for.
enum ByteRange: Equatable {
    /// Nothing that can be given: several ranges, other units, or no range at all. The field is to be ignored.
    case ignored
    /// Bytes that the file does not have.
    case unsatisfiable
    case part(Range<Int64>)

    /// - Parameter size: of the file, in bytes.
    init(_ text: String, of size: Int64) {
        self = .ignored
        guard text.hasPrefix("bytes=") else { return }
        let parts = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.allSatisfy(\.isDigit) && $0.utf8.count < 19 }) else {
            return
        }
        switch (Int64(parts[0]), Int64(parts[1])) {
        case (nil, nil): break
        case (nil, let count?): self = count == 0 || size == 0 ? .unsatisfiable : .part(max(0, size - count)..<size)
        case (let first?, nil): self = first < size ? .part(first..<size) : .unsatisfiable
        case (let first?, let last?):
            if last >= first { self = first < size ? .part(first..<min(last + 1, size)) : .unsatisfiable }
        }
    }
}
