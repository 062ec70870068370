import Rondo
import SystemPackage

/// Reads lists of URLs.
enum FetchList {
    private static let limit = 64 << 20

    /// The requests of a file; `-` is standard input.
    static func read(_ path: String) async throws -> [FetchRequest] {
        let bytes: [UInt8]
        if path == "-" {
            bytes = try await StandardStreams.input().readToEnd(limit: limit)
        } else {
            bytes = try await File.contents(of: FilePath(path), limit: limit)
        }
        return try parse(bytes, name: path == "-" ? "standard input" : path)
    }

    /// The requests that a list holds.
    ///
    /// - Parameter name: of the list, for errors.
    static func parse(_ bytes: [UInt8], name: String) throws -> [FetchRequest] {
        var requests: [FetchRequest] = []
        for (index, line) in bytes.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated() {
            guard let text = String(validating: line, as: UTF8.self) else {
                throw CommandFailure("\(name):\(index + 1): it is not valid UTF-8: percent-encode what is not text")
            }
            let words = text.split(whereSeparator: \.isWhitespace)
            guard let url = words.first, !url.hasPrefix("#") else { continue }
            guard words.count <= 2 else {
                throw CommandFailure(
                    "\(name):\(index + 1): a line is a URL and perhaps a SHA-256; write %20 for a space")
            }
            var sum: [UInt8]?
            if words.count == 2 {
                sum = checksum(words[1])
                if sum == nil {
                    throw CommandFailure("\(name):\(index + 1): “\(words[1])” is no SHA-256: 64 hexadecimal digits")
                }
            }
            requests.append(FetchRequest(url: String(url), sha256: sum))
        }
        return requests
    }

    /// The 32 bytes of 64 hexadecimal digits; nil for anything else.
    static func checksum(_ text: some StringProtocol) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = digit(digits[index]), let low = digit(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    /// Bytes in hexadecimal digits.
    static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
