// What StaticFiles reads in a request: its path, `Range` and `Accept-Encoding`.

enum PathFuzzer: FuzzTarget {
    static let seeds = [
        "/", "/a/b.txt", "//a//", "/%2e%2e/a", "/..%2fa", "/a%00b", "/%C3%A9", "/%zz", "/%", "/.a", "/é\u{301}/..",
        "/a/\u{301}..",
    ].map { Array($0.utf8) }

    static func run(_ input: [UInt8]) {
        // A target has no other bytes in HTTP/1; in HTTP/2 it may be any text.
        let text = String(decoding: input, as: UTF8.self)
        guard let names = RequestPath.names(in: text[...]) else { return }
        expect(text.utf8.first == 0x2F, "no slash")
        for name in names {
            let bytes = Array(name.utf8)
            expect(!bytes.isEmpty && !bytes.contains(0x2F) && !bytes.contains(0), "a name of several")
            expect(
                ![".", ".."].contains(bytes.map { String(UnicodeScalar($0)) }.joined()) || RequestPath.isHidden(name),
                "a way up")
            let again = RequestPath.names(in: "/\(RequestPath.encoded(name))")
            expect(again.map { $0.map { Array($0.utf8) } } == [bytes], "another name when it is encoded")
        }
        let slashes = input.count { $0 == 0x2F }
        expect(names.count <= slashes, "more names than slashes")
    }
}

enum RangeFuzzer: FuzzTarget {
    static let seeds = [
        "\u{9}bytes=0-0", "\u{9}bytes=2-", "\u{9}bytes=-3", "\u{0}bytes=-0", "\u{5}bytes=9223372036854775807-",
        "\u{5}bytes=0-999999999999999999", "\u{5}bytes=1-2,3-4", "\u{5}bytes=3-1", "\u{5}Bytes = 1 - 2",
    ].map { Array($0.utf8) }

    static func run(_ input: [UInt8]) {
        guard let first = input.first else { return }
        let text = String(decoding: input.dropFirst(), as: UTF8.self)
        for size in [Int64(first), 0, 1, .max] {
            guard case .part(let range) = ByteRange(text, of: size) else { continue }
            expect(!range.isEmpty && range.lowerBound >= 0 && range.upperBound <= size, "\(range) of \(size)")
            expect(text.hasPrefix("bytes="), "units")
        }
    }
}

enum CodingFuzzer: FuzzTarget {
    static let seeds = [
        "gzip", "gzip;q=0.5, identity;q=0.1, *;q=0", "deflate, x-gzip ; q=1.000", "*", "identity;q=0", ",;q=,=",
        "gzip;q=0.001;x", "GZIP;Q=1",
    ].map { Array($0.utf8) }

    static func run(_ input: [UInt8]) {
        let text = String(decoding: input, as: UTF8.self)
        let coding = ContentCoding(text)
        for weight in [coding.gzip, coding.identity] {
            if let weight { expect((0...1000).contains(weight), "a weight of \(weight)") }
        }
        if coding.prefersGzip {
            expect(text.lowercased().contains("gzip") || text.contains("*"), "nobody has asked")
        }
        expect(ContentCoding(text + ",") == coding && ContentCoding("," + text) == coding, "an empty element counts")
    }
}
