// Where a connection's answers are put together before they are sent.

import Rondo

/// Bytes to be sent. While they are on their way nobody changes them.
@safe
final class OutputBuffer: @unchecked Sendable {
    // SAFETY: it belongs to its connection's task. The kernel is given the array's memory, which stays where it is
    // while the array is not changed; the connection changes it only when nothing is under way.

    private(set) var bytes: [UInt8] = []

    var count: Int { bytes.count }
    var isEmpty: Bool { bytes.isEmpty }

    /// Lets go of what was sent, but not of the memory, unless it has grown.
    func clear() {
        if bytes.capacity > 128 * 1024 { bytes = [] } else { bytes.removeAll(keepingCapacity: true) }
    }

    func append(_ text: StaticString) {
        // SAFETY: the text is a constant of the program.
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    func append(_ more: [UInt8]) { bytes.append(contentsOf: more) }

    func append(_ more: RawSpan) { bytes.append(copying: more) }

    /// A number in decimal digits.
    func append(_ number: Int) {
        if number < 10 { return bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number)) }
        append(number / 10)
        bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number % 10))
    }

    /// A number in hexadecimal digits.
    func appendHexadecimal(_ number: Int) {
        if number >= 16 { appendHexadecimal(number >> 4) }
        let digit = UInt8(truncatingIfNeeded: number & 15)
        bytes.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }

    func appendLineEnd() {
        bytes.append(.carriageReturn)
        bytes.append(.lineFeed)
    }

    /// A chunk of these bytes, that keeps them.
    func makeChunk() -> ByteChunk {
        // SAFETY: the array stays as it is while it is under way.
        let memory = unsafe bytes.withUnsafeBytes { unsafe $0 }
        return unsafe ByteChunk(memory, keptBy: self)
    }
}
