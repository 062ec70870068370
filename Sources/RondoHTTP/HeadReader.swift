// Reads a head byte by byte, within its bounds.

import HTTPTypes

/// A place in the bytes of a head.
struct HeadReader: ~Escapable {
    /// Why reading stops: something is wrong, or there is no more.
    enum Stop: Error { case refused(HTTPRefusal), end }

    private let bytes: Span<UInt8>
    var position = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    /// The next byte, which is not taken.
    @inline(__always)
    func peek() throws(Stop) -> UInt8 {
        guard position < bytes.count else { throw .end }
        return bytes[position]
    }

    @inline(__always)
    mutating func next() throws(Stop) -> UInt8 {
        let byte = try peek()
        position += 1
        return byte
    }

    /// The end of a line, which is both characters: a lone line feed is an end for some readers only.
    mutating func lineEnd(_ place: StaticString) throws(Stop) {
        guard try next() == .carriageReturn else {
            throw .refused(HTTPRefusal(.badRequest, "something stands behind \(place)"))
        }
        guard try next() == .lineFeed else {
            throw .refused(HTTPRefusal(.badRequest, "a carriage return without a line feed ends \(place)"))
        }
    }

    /// The token before `end`, which is taken too.
    @inline(__always)
    mutating func token(until end: UInt8, _ what: StaticString) throws(Stop) -> Range<Int> {
        let start = position
        while true {
            let byte = try next()
            if byte == end { break }
            if !byte.isToken {
                throw .refused(HTTPRefusal(.badRequest, "\(what) has a byte that it may not have"))
            }
        }
        if position - 1 == start { throw .refused(HTTPRefusal(.badRequest, "\(what) is empty")) }
        return start..<position - 1
    }

    /// A field's name and its colon. White space before it would be a continued line, or hide the colon.
    @inline(__always)
    mutating func fieldName() throws(Stop) -> Range<Int> {
        let first = try peek()
        if first == .space || first == .tab {
            throw .refused(HTTPRefusal(.badRequest, "a header line is continued"))
        }
        return try token(until: .colon, "a field's name")
    }

    /// A field's value without the white space around it, and the end of its line.
    mutating func fieldValue() throws(Stop) -> Range<Int> {
        while true {
            let byte = try peek()
            if byte != .space, byte != .tab { break }
            position += 1
        }
        let start = position
        var end = position
        var isASCII = true
        while true {
            let byte = try next()
            if byte == .carriageReturn { break }
            if byte >= 0x20, byte != 0x7F {
                if byte >= 0x80 { isASCII = false }
                if byte != .space { end = position }
            } else if byte != .tab {
                throw .refused(HTTPRefusal(.badRequest, "a field's value has a control character"))
            }
        }
        guard try next() == .lineFeed else {
            throw .refused(HTTPRefusal(.badRequest, "a carriage return stands in a field's value"))
        }
        if !isASCII, !isUTF8(start..<end) {
            throw .refused(HTTPRefusal(.badRequest, "a field's value is not UTF-8"))
        }
        return start..<end
    }

    private func isUTF8(_ range: Range<Int>) -> Bool { (try? UTF8Span(validating: bytes.extracting(range))) != nil }

    /// Whether these bytes are `text`, which is in lower case.
    @inline(__always)
    func matches(_ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        // SAFETY: as many bytes as the text has.
        let expected = unsafe UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        for index in range.indices {
            var byte = bytes[index]
            if byte &- UInt8(ascii: "A") < 26 { byte |= 0x20 }
            if unsafe byte != expected[index - range.lowerBound] { return false }
        }
        return true
    }

    /// The number that these digits are; nil if they are none, or too many.
    func number(_ range: Range<Int>) -> Int? {
        if range.isEmpty || range.count > 18 { return nil }
        var number = 0
        for index in range {
            let byte = bytes[index]
            if !byte.isDigit { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }

    /// The elements of a list that is separated by commas, without the white space around them.
    func forEachElement(of range: Range<Int>, _ body: (Range<Int>) -> Void) {
        var start = range.lowerBound
        while start < range.upperBound {
            var end = start
            while end < range.upperBound, bytes[end] != UInt8(ascii: ",") { end += 1 }
            let next = end + 1
            while start < end, bytes[start] == .space || bytes[start] == .tab { start += 1 }
            while end > start, bytes[end - 1] == .space || bytes[end - 1] == .tab { end -= 1 }
            if start < end { body(start..<end) }
            start = next
        }
    }
}
