// Where an answer ends, however its bytes are cut.

import Testing

@testable import RondoCommand

@Suite struct ResponseScannerTests {
    typealias Progress = ResponseScanner.Progress

    /// What the scanner says of bytes that come in two pieces, for all places where they can be cut.
    private func outcomes(_ text: String, hasBody: Bool = true) -> Set<String> {
        let bytes = Array(text.utf8)
        return Set(
            (0...bytes.count).map { cut in
                var scanner = ResponseScanner(hasBody: hasBody)
                var progress = take(bytes[..<cut], &scanner)
                if progress == .incomplete { progress = take(bytes[cut...], &scanner) }
                return "\(progress)"
            })
    }

    private func take(_ bytes: ArraySlice<UInt8>, _ scanner: inout ResponseScanner) -> Progress {
        // SAFETY: read within the call.
        unsafe bytes.withUnsafeBytes { unsafe scanner.take($0) }
    }

    private func complete(_ status: Int, keepsConnection: Bool = true) -> Set<String> {
        ["\(Progress.complete(status: status, keepsConnection: keepsConnection))"]
    }

    @Test func theEndIsFoundWhereverTheBytesAreCut() {
        #expect(outcomes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") == complete(200))
        #expect(outcomes("HTTP/1.1 404 Not Found\nContent-Length:0 \n\n") == complete(404))
        #expect(outcomes("HTTP/1.1 204 None\r\n\r\n") == complete(204))
        #expect(outcomes("HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n") == complete(304))
        #expect(
            outcomes("HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx") == complete(200))
        let chunks = "3;a=b\r\nabc\r\n00A \r\n0123456789\r\n0\r\nX: y\r\n\r\n"
        #expect(
            outcomes("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n\(chunks)") == complete(200))
        #expect(outcomes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", hasBody: false) == complete(200))
    }

    @Test func theConnectionIsKeptIfBothWantIt() {
        #expect(
            outcomes("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")
                == complete(200, keepsConnection: false))
        #expect(outcomes("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n") == complete(200, keepsConnection: false))
        #expect(
            outcomes("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n") == complete(200))
    }

    @Test func aBodyWithoutLengthEndsWithTheConnection() {
        var scanner = ResponseScanner()
        #expect(scanner.statusAtEnd == nil)
        #expect(take(Array("HTTP/1.1 500 No\r\n\r\nall that".utf8)[...], &scanner) == .incomplete)
        #expect(scanner.statusAtEnd == 500)
    }

    @Test(arguments: [
        "SSH-2.0-x\r\n", "HTTP/1.1 2000 OK\r\n", "HTTP/2 200 OK\r\n", "HTTP/1.1 20x OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
    ])
    func whatIsNoAnswerIsMalformed(text: String) {
        var scanner = ResponseScanner()
        #expect(take(Array(text.utf8)[...], &scanner) == .malformed)
    }

    @Test func headsHaveALimit() {
        var scanner = ResponseScanner()
        #expect(take(Array("HTTP/1.1 200 OK\r\n".utf8)[...], &scanner) == .incomplete)
        let field = Array("X-Y: \(String(repeating: "z", count: 1000))\r\n".utf8)[...]
        #expect((0..<64).allSatisfy { _ in take(field, &scanner) == .incomplete })
        #expect((0..<2).contains { _ in take(field, &scanner) == .malformed })
    }

    /// Answers on one connection are independent of each other.
    @Test func anAnswerLeavesNothingToTheNext() {
        var scanner = ResponseScanner()
        for text in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        ] {
            let progress = take(Array(text.utf8)[...], &scanner)
            #expect(progress == .complete(status: 200, keepsConnection: !text.contains("close")))
        }
    }
}
