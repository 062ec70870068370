import HTTPTypes

/// Reads a response's head, line by line, as libcurl hands the lines over: statuses of interim answers too, and after
/// the body trailers. Pure; limits hold for all lines of one answer together.
struct ResponseHead {
    // SAFETY: a line is looked at within the call that hands it over, and what is kept of it is copied.

    /// Where reading is.
    enum State: Equatable { case statusLine, fields, complete }

    private(set) var state = State.statusLine
    private(set) var status = HTTPResponse.Status(code: 0)
    /// `1.1`, `2`.
    private(set) var version = ""
    private(set) var fields = HTTPFields()
    private(set) var trailers = HTTPFields()

    private let limits: HTTPClientConfiguration.Limits
    private var bytes = 0
    private var count = 0

    init(limits: HTTPClientConfiguration.Limits) { self.limits = limits }

    /// Takes one line, its line feed included.
    mutating func read(_ line: UnsafeRawBufferPointer) throws(HTTPClientError.Refusal) {
        bytes += line.count
        if bytes > limits.headerBytes {
            throw .init(.headerLimit("its header fields have more than \(limits.headerBytes) bytes"))
        }
        var end = line.count
        // SAFETY: within the line, which lives for the call.
        while end > 0, unsafe line[end - 1] == 0x0a || line[end - 1] == 0x0d { end -= 1 }
        let text = unsafe UnsafeRawBufferPointer(rebasing: line[..<end])
        switch state {
        case .statusLine: unsafe try readStatus(text)
        case .fields where unsafe text.isEmpty:
            // 100, 103: the real answer follows. 101 would be one, if it were asked for.
            let isInterim = (100..<200).contains(status.code) && status.code != 101
            if isInterim { fields = HTTPFields() }
            state = isInterim ? .statusLine : .complete
        case .fields: unsafe fields.append(try readField(text))
        case .complete where unsafe text.isEmpty: break
        case .complete: unsafe trailers.append(try readField(text))
        }
    }

    private mutating func readStatus(_ line: UnsafeRawBufferPointer) throws(HTTPClientError.Refusal) {
        let text = unsafe try Self.text(line, of: "its status line")
        let words = text.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0].hasPrefix("HTTP/"), words[1].utf8.count == 3, let code = Int(words[1]),
            (100...999).contains(code)
        else { throw .init(.malformedResponse("its status line is “\(text.prefix(80))”")) }
        version = String(words[0].dropFirst(5))
        status = HTTPResponse.Status(code: code, reasonPhrase: words.count > 2 ? String(words[2]) : "")
        state = .fields
    }

    private mutating func readField(_ line: UnsafeRawBufferPointer) throws(HTTPClientError.Refusal) -> HTTPField {
        count += 1
        if count > limits.headerFields {
            throw .init(.headerLimit("it has more than \(limits.headerFields) header fields"))
        }
        // SAFETY: slices of the line.
        guard let colon = unsafe line.firstIndex(of: UInt8(ascii: ":")) else {
            throw .init(.malformedResponse("a header field has no colon"))
        }
        let rawName = unsafe try Self.text(UnsafeRawBufferPointer(rebasing: line[..<colon]), of: "a field's name")
        guard let name = HTTPField.Name(rawName) else {
            throw .init(.malformedResponse("“\(rawName.prefix(80))” is no name of a header field"))
        }
        var value = unsafe line[(colon + 1)...]
        while let byte = unsafe value.first, byte == 0x20 || byte == 0x09 { unsafe value.removeFirst() }
        while let byte = unsafe value.last, byte == 0x20 || byte == 0x09 { unsafe value.removeLast() }
        let text = unsafe try Self.text(UnsafeRawBufferPointer(rebasing: value), of: "the header field \(rawName)")
        return HTTPField(name: name, value: text)
    }

    private static func text(
        _ bytes: UnsafeRawBufferPointer, of part: String
    ) throws(HTTPClientError.Refusal) -> String {
        // SAFETY: copied into a string within the call.
        guard let text = unsafe String(validating: bytes, as: UTF8.self) else {
            throw .init(.malformedResponse("\(part) is not valid UTF-8"))
        }
        return text
    }
}

extension HTTPClientError {
    /// A cause on its way to where the request is known.
    struct Refusal: Error {
        var cause: Cause

        init(_ cause: Cause) { self.cause = cause }
    }
}
