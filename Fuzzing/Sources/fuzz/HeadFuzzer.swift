// A request's head: what is taken for one is the same whatever comes behind it and in whatever pieces it comes, has
// nothing in it that another reader could see differently, and says one thing about its body.

import HTTPTypes

enum HeadFuzzer: FuzzTarget {
    static let seeds = [
        "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAccept: */*\r\n\r\nhello",
        "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "DELETE /y HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nContent-Length: 0\r\n\r\n",
        "\r\nOPTIONS * HTTP/1.1\r\nhost: x\r\nConnection: close, x\r\nX: \t a b \t\r\nY:\r\n\r\n",
        "GET /é HTTP/1.1\r\nHost: x\r\nX: é\r\n continued\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ].map { Array($0.utf8) }

    private static let limits: HTTPLimits = {
        var limits = HTTPLimits()
        // So small that the fuzzer gets there.
        limits.headBytes = 512
        limits.headerFields = 8
        limits.targetBytes = 64
        return limits
    }()

    static func run(_ input: [UInt8]) {
        var head = HTTP1Head()
        let outcome = head.parse(input.span, limits)
        switch outcome {
        case .incomplete: expect(input.count < limits.headBytes, "a head without an end")
        case .refused(let refusal):
            expect([400, 414, 417, 431, 501, 505].contains(refusal.status.code), "status \(refusal.status)")
            // More bytes do not make it a head that may still become complete.
            let longer = input + Array("\r\n\r\n".utf8)
            var again = HTTP1Head()
            let outcome = again.parse(longer.span, limits)
            expect(outcome != .incomplete, "refused, then waited for")
        case .complete: check(head, input)
        }
    }

    private static func check(_ head: HTTP1Head, _ input: [UInt8]) {
        expect(head.byteCount <= min(input.count, limits.headBytes), "more bytes than there are")
        expect(input[..<head.byteCount].suffix(4).elementsEqual("\r\n\r\n".utf8), "the end is none")
        // As it comes in pieces: it is complete with its last byte, and not before.
        for count in Set([head.byteCount - 1, head.byteCount - 2, head.byteCount / 2]) {
            let bytes = Array(input[..<count])
            var part = HTTP1Head()
            let outcome = part.parse(bytes.span, limits)
            expect(outcome == .incomplete, "complete with \(count) bytes")
        }
        // Alone it is the same.
        let bytes = Array(input[..<head.byteCount])
        var alone = HTTP1Head()
        let outcome = alone.parse(bytes.span, limits)
        expect(outcome == .complete, "not complete alone")
        expect(alone.framing == head.framing && alone.keepsAlive == head.keepsAlive, "another head alone")
        checkParts(head, input)
        checkBody(head, input)
    }

    private static func checkParts(_ head: HTTP1Head, _ input: [UInt8]) {
        expect(!head.method.isEmpty && input[head.method].allSatisfy(\.isToken), "the method")
        expect(!head.target.isEmpty && input[head.target].allSatisfy { $0 > 0x20 && $0 < 0x7F }, "the target")
        expect(head.target.count <= limits.targetBytes && head.fields.count <= limits.headerFields, "limits")
        var end = head.target.upperBound
        for field in head.fields {
            expect(field.name.lowerBound > end && field.value.lowerBound > field.name.upperBound, "order")
            end = field.value.upperBound
            expect(!field.name.isEmpty && input[field.name].allSatisfy(\.isToken), "a name")
            let value = input[field.value]
            expect(value.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 9 }, "a value's bytes")
            expect(value.first != 0x20 && value.last != 0x20 && value.first != 9, "white space around a value")
            expect(String(validating: value, as: UTF8.self) != nil, "a value's text")
        }
        // swift-http-types must take what was accepted.
        for field in head.fields {
            let name = String(decoding: input[field.name], as: UTF8.self)
            expect(HTTPField.Name(name) != nil, "a name that swift-http-types refuses: \(name)")
        }
    }

    /// Looks at the fields as a simpler reader would: any that speak of the body must be the one that was followed.
    private static func checkBody(_ head: HTTP1Head, _ input: [UInt8]) {
        func values(_ name: String) -> [String] {
            head.fields.filter { String(decoding: input[$0.name], as: UTF8.self).lowercased() == name }
                .map { String(decoding: input[$0.value], as: UTF8.self) }
        }
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"))
        switch head.framing {
        case .chunked:
            expect(codings.count == 1 && codings[0].lowercased() == "chunked" && lengths.isEmpty, "chunked, and else")
            expect(head.minorVersion == 1, "chunked in 1.0")
        case .length(let length):
            expect(codings.isEmpty && lengths.count <= 1, "two lengths")
            expect(length >= 0 && (lengths.first.map { Int($0) } ?? 0) == length, "another length")
        }
        expect(values("host").count <= 1, "two hosts")
        expect(head.minorVersion == 0 || values("host").count == 1, "no host")
    }
}
