// PROXY headers: they go there and back, and nothing that a stranger sends gets through or crashes.

import Testing

@testable import Rondo

@Suite struct ProxyHeaderTests {
    private static let four = ProxyHeader.Addresses(
        source: .ipv4(192, 0, 2, 1, port: 56_324), destination: .ipv4(198, 51, 100, 7, port: 443))
    private static let six = ProxyHeader.Addresses(
        source: SocketAddress("2001:db8::1", port: 1)!, destination: SocketAddress("2001:db8::2", port: 65_535)!)

    private func read(_ bytes: [UInt8], size: Int = 1, limit: Int = 4096) async throws -> (ProxyHeader, rest: [UInt8]) {
        let reader = BufferedReader(Pieces(bytes, size: size))
        let header = try await ProxyHeader.read(from: reader, limit: limit)
        let sink = Collected()
        try await copy(from: reader, to: sink)
        return (header, sink.bytes)
    }

    @Test(arguments: [1, 5, 13, 1000]) func headersGoThereAndBack(size: Int) async throws {
        let attributes = [ProxyHeader.Attribute(type: 1, value: Array("h2".utf8)), .init(type: 4, value: [])]
        for addresses in [Self.four, Self.six, nil] {
            for (version, attributes) in [(ProxyHeader.Version.v1, []), (.v2, attributes)] {
                let header = ProxyHeader(addresses, attributes: attributes)
                let (read, rest) = try await read(header.bytes(version) + Array("GET /".utf8), size: size)
                #expect(read.addresses == addresses)
                #expect(read.attributes == (addresses == nil ? [] : attributes))
                #expect(rest == Array("GET /".utf8), "the connection's own bytes stay")
            }
        }
    }

    @Test func theFormIsTheSpecifications() {
        let text = String(decoding: ProxyHeader(Self.four).bytes(.v1), as: UTF8.self)
        #expect(text == "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n")
        #expect(ProxyHeader(nil).bytes(.v1) == Array("PROXY UNKNOWN\r\n".utf8))
        let start: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
        #expect(
            ProxyHeader(Self.four).bytes() == start + [
                0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb,
            ])
        #expect(ProxyHeader(nil).bytes() == start + [0x20, 0, 0, 0])
        let mixed = ProxyHeader(.init(source: Self.four.source, destination: Self.six.destination))
        #expect(
            String(decoding: mixed.bytes(.v1), as: UTF8.self)
                == "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 65535\r\n")
    }

    @Test func whatIsToBeIgnoredIs() async throws {
        let unknown = try await read(Array("PROXY UNKNOWN what ever 1 2\r\nx".utf8))
        #expect(unknown.0.addresses == nil && unknown.rest == [0x78])
        // A health check with addresses; Unix sockets; an unspecified family with attributes.
        let start = Array(ProxyHeader(nil).bytes().prefix(12))
        for (fixed, body) in [
            ([0x20, 0x11, 0, 12], 12), ([0x21, 0x31, 0, 216], 216), ([0x21, 0x00, 0, 0], 0),
        ] as [([UInt8], Int)] {
            let (header, rest) = try await read(start + fixed + [UInt8](repeating: 9, count: body) + [1])
            #expect(header.addresses == nil && rest == [1])
        }
    }

    @Test(arguments: [
        "HELLO", "PROXX TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n", "PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 localhost 1.2.3.4 1 2\r\n", "PROXY  \r\n", "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
    ])
    func malformedLinesAreRefused(text: String) async {
        let error = await ioError { try await read(Array(text.utf8)) }
        guard case .malformed? = error?.cause else { Issue.record("\(text): \(error as Any)"); return }
        #expect(error?.description.hasPrefix("read PROXY header from the pieces: ") == true)
    }

    @Test func malformedBinariesAreRefused() async {
        let good = ProxyHeader(Self.six, attributes: [.init(type: 1, value: [1, 2, 3])]).bytes()
        func isMalformed(_ change: (inout [UInt8]) -> Void) async -> Bool {
            var bytes = good
            change(&bytes)
            guard case .malformed? = await ioError({ try await read(bytes) })?.cause else { return false }
            return true
        }
        #expect(await isMalformed { $0[12] = 0x11 }, "version")
        #expect(await isMalformed { $0[12] = 0x22 }, "command")
        #expect(await isMalformed { $0[13] = 0x41 }, "family")
        #expect(await isMalformed { $0[15] = 35 }, "addresses")
        #expect(await isMalformed { $0[15] = 38 }, "attribute without length")
        #expect(await isMalformed { $0[54] = 4 }, "attribute too long")
        #expect(await isMalformed { $0[3] = 0 }, "signature")
    }

    @Test func headersEndAndAreLimited() async {
        for header in [ProxyHeader(Self.four).bytes(.v1), ProxyHeader(Self.four).bytes(.v2)] {
            for count in 0..<header.count {
                let error = await ioError { try await read(Array(header.prefix(count))) }
                #expect(error?.cause == .unexpectedEnd, "\(count) bytes")
            }
        }
        let endless = Array("PROXY UNKNOWN ".utf8) + [UInt8](repeating: 0x61, count: 200)
        guard case .malformed? = await ioError({ try await read(endless) })?.cause else {
            Issue.record("an endless line")
            return
        }
        let long = ProxyHeader(Self.four, attributes: [.init(type: 3, value: pattern(1000))]).bytes()
        #expect(await ioError { try await read(long, limit: 500) }?.cause == .limitExceeded(500))
    }

    /// Headers with some bytes changed, cut or added: an answer or an error, never a crash, and what is accepted is
    /// written as it was read.
    @Test(arguments: 0..<300 as Range<UInt64>) func anythingGoes(seed: UInt64) async throws {
        var numbers = SeededNumbers(state: seed)
        let attributes = (0..<numbers.below(4)).map { _ in
            ProxyHeader.Attribute(type: UInt8(numbers.below(256)), value: pattern(numbers.below(20)))
        }
        let header = ProxyHeader([Self.four, Self.six, nil][numbers.below(3)], attributes: attributes)
        for _ in 0..<30 {
            var bytes = header.bytes(numbers.below(2) == 0 ? .v1 : .v2)
            for _ in 0..<numbers.below(4) {
                let index = numbers.below(bytes.count)
                switch numbers.below(4) {
                case 0: bytes[index] = UInt8(numbers.below(256))
                case 1: bytes[index] ^= 1 << UInt8(numbers.below(8))
                case 2: bytes.insert(UInt8(numbers.below(256)), at: index)
                default: if bytes.count > 1 { bytes.removeLast(numbers.below(bytes.count - 1)) }
                }
            }
            do {
                let (read, _) = try await read(bytes, size: 1 + numbers.below(20))
                let again = try await self.read(read.bytes()).0
                #expect(again.addresses == read.addresses)
            } catch let error as IOError {
                switch error.cause {
                case .malformed, .unexpectedEnd, .limitExceeded: break
                default: Issue.record("\(error)")
                }
            }
        }
    }
}
