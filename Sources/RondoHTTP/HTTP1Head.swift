// The head of an HTTP/1.1 request (RFC 9112), taken apart where it stands. It is strict: what two readers might
// understand in two ways is refused, because that is how a request is smuggled past the first of them.

import HTTPTypes

/// Why a request is refused: the status that says so, and a reason for the log.
struct HTTPRefusal: Error, Equatable {
    var status: HTTPResponse.Status
    var reason: String

    init(_ status: HTTPResponse.Status, _ reason: String) {
        self.status = status
        self.reason = reason
    }
}

/// A request's head: where its parts stand in the bytes that it was read from, and what they say about the body.
struct HTTP1Head: Sendable {
    struct Field: Sendable {
        var name: Range<Int>
        var value: Range<Int>
    }

    /// How the end of the body is found.
    enum Framing: Equatable { case length(Int), chunked }

    var method = 0..<0
    var target = 0..<0
    var minorVersion = 1
    var fields: [Field] = []
    var framing = Framing.length(0)
    /// Whether the client wants to go on with this connection.
    var keepsAlive = true
    var expectsContinue = false
    var wantsUpgrade = false
    /// The bytes of the head, its last line feed included.
    var byteCount = 0

    enum Outcome: Equatable { case complete, incomplete, refused(HTTPRefusal) }

    /// Takes a head apart.
    ///
    /// - Returns: `incomplete` if it goes on behind the end of `bytes`; nothing is known then.
    mutating func parse(_ bytes: Span<UInt8>, _ limits: HTTPLimits) -> Outcome {
        fields.removeAll(keepingCapacity: true)
        var reader = HeadReader(bytes)
        do throws(HeadReader.Stop) {
            try readRequestLine(&reader, limits)
            try readFields(&reader, limits)
            byteCount = reader.position
            if byteCount > limits.headBytes { throw .refused(Self.headTooLarge) }
            return .complete
        } catch {
            switch error {
            case .refused(let refusal): return .refused(refusal)
            case .end: return bytes.count >= limits.headBytes ? .refused(Self.headTooLarge) : .incomplete
            }
        }
    }

    static let headTooLarge = HTTPRefusal(.requestHeaderFieldsTooLarge, "the head is too large")

    // MARK: The request line

    private mutating func readRequestLine(_ reader: inout HeadReader, _ limits: HTTPLimits) throws(HeadReader.Stop) {
        // Some clients send an empty line after a body that has none.
        if try reader.peek() == .carriageReturn { try reader.lineEnd("the request line") }
        method = try reader.token(until: .space, "the method")
        if method.count > 64 { throw .refused(HTTPRefusal(.notImplemented, "the method is too long")) }
        let start = reader.position
        while true {
            let byte = try reader.peek()
            if byte == .space { break }
            guard byte > 0x20, byte < 0x7F else {
                throw .refused(HTTPRefusal(.badRequest, "the target has a byte that it may not have"))
            }
            reader.position += 1
            if reader.position - start > limits.targetBytes {
                throw .refused(HTTPRefusal(.uriTooLong, "the target is too long"))
            }
        }
        target = start..<reader.position
        if target.isEmpty { throw .refused(HTTPRefusal(.badRequest, "the target is empty")) }
        reader.position += 1
        try readVersion(&reader)
    }

    private mutating func readVersion(_ reader: inout HeadReader) throws(HeadReader.Stop) {
        for expected in "HTTP/".utf8 where try reader.next() != expected {
            throw .refused(HTTPRefusal(.badRequest, "the request line does not end with a version"))
        }
        let major = try reader.next()
        let dot = try reader.next()
        let minor = try reader.next()
        guard dot == UInt8(ascii: "."), major.isDigit, minor.isDigit else {
            throw .refused(HTTPRefusal(.badRequest, "the version is none"))
        }
        guard major == UInt8(ascii: "1"), minor <= UInt8(ascii: "1") else {
            throw .refused(HTTPRefusal(.httpVersionNotSupported, "the version is neither 1.0 nor 1.1"))
        }
        minorVersion = Int(minor - UInt8(ascii: "0"))
        try reader.lineEnd("the request line")
    }

    // MARK: The fields

    /// What the fields seen so far say.
    private struct Seen {
        var host = false
        var length: Int?
        var isChunked = false
        var close = false
        var keepAlive = false
    }

    private mutating func readFields(_ reader: inout HeadReader, _ limits: HTTPLimits) throws(HeadReader.Stop) {
        var seen = Seen()
        expectsContinue = false
        wantsUpgrade = false
        while try reader.peek() != .carriageReturn {
            if fields.count == limits.headerFields {
                throw .refused(HTTPRefusal(.requestHeaderFieldsTooLarge, "there are too many header fields"))
            }
            let name = try reader.fieldName()
            let value = try reader.fieldValue()
            fields.append(Field(name: name, value: value))
            try note(name, value, reader, &seen)
        }
        try reader.lineEnd("the head")
        if minorVersion == 1, !seen.host { throw .refused(HTTPRefusal(.badRequest, "there is no Host")) }
        if seen.isChunked {
            if seen.length != nil {
                throw .refused(HTTPRefusal(.badRequest, "there are both Content-Length and Transfer-Encoding"))
            }
            if minorVersion == 0 { throw .refused(HTTPRefusal(.badRequest, "HTTP/1.0 has no Transfer-Encoding")) }
            framing = .chunked
        } else {
            framing = .length(seen.length ?? 0)
        }
        keepsAlive = !seen.close && (minorVersion == 1 || seen.keepAlive)
    }

    /// Looks at the fields that say how to go on. Their names have lengths that few others have.
    private mutating func note(
        _ name: Range<Int>, _ value: Range<Int>, _ reader: HeadReader, _ seen: inout Seen
    ) throws(HeadReader.Stop) {
        switch name.count {
        case 4 where reader.matches(name, "host"):
            if seen.host { throw .refused(HTTPRefusal(.badRequest, "there are two Hosts")) }
            seen.host = true
        case 14 where reader.matches(name, "content-length"):
            if seen.length != nil { throw .refused(HTTPRefusal(.badRequest, "there are two Content-Lengths")) }
            guard let length = reader.number(value) else {
                throw .refused(HTTPRefusal(.badRequest, "the Content-Length is no number"))
            }
            seen.length = length
        case 17 where reader.matches(name, "transfer-encoding"):
            if seen.isChunked { throw .refused(HTTPRefusal(.badRequest, "there are two Transfer-Encodings")) }
            guard reader.matches(value, "chunked") else {
                throw .refused(HTTPRefusal(.notImplemented, "the Transfer-Encoding is not chunked"))
            }
            seen.isChunked = true
        case 10 where reader.matches(name, "connection"):
            reader.forEachElement(of: value) { element in
                if reader.matches(element, "close") { seen.close = true }
                if reader.matches(element, "keep-alive") { seen.keepAlive = true }
                if reader.matches(element, "upgrade") { wantsUpgrade = true }
            }
        case 6 where reader.matches(name, "expect"):
            guard reader.matches(value, "100-continue") else {
                throw .refused(HTTPRefusal(.expectationFailed, "the expectation is unknown"))
            }
            expectsContinue = minorVersion == 1
        default: break
        }
    }
}

extension UInt8 {
    static let space = UInt8(ascii: " ")
    static let tab = UInt8(ascii: "\t")
    static let carriageReturn = UInt8(ascii: "\r")
    static let lineFeed = UInt8(ascii: "\n")
    static let colon = UInt8(ascii: ":")

    @inline(__always)
    var isDigit: Bool { self &- UInt8(ascii: "0") < 10 }

    /// Whether it may stand in a method or a field's name: RFC 9110's `tchar`.
    @inline(__always)
    var isToken: Bool {
        self < 64
            ? Self.lowTokens &>> UInt64(self) & 1 != 0 : self < 128 && Self.highTokens &>> UInt64(self & 63) & 1 != 0
    }

    private static let lowTokens = mask(of: "!#$%&'*+-.0123456789", from: 0)
    private static let highTokens = mask(
        of: "ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~", from: 64)

    private static func mask(of characters: String, from first: UInt8) -> UInt64 {
        characters.utf8.reduce(0) { $0 | 1 << UInt64($1 - first) }
    }
}
