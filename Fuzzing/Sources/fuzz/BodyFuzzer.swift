// A chunked body: the same data, the same end and the same refusal, in whatever pieces it comes; and no more than the
// limits allow. The first two bytes of an input are the sizes of pieces.

enum BodyFuzzer: FuzzTarget {
    static let seeds = [
        "\u{1}\u{7}5\r\nhello\r\n0\r\n\r\nrest", "\u{3}\u{2}A;x=\"y\"\r\n0123456789\r\n00\r\nT: x\r\nU: y\r\n\r\n",
        "\u{2}\u{5}ffffffffffffffff\r\n", "\u{1}\u{1}1\r\na\r\n1\r\nb\r\n1\nc", "\u{9}\u{9}0\r\n\r\n",
    ].map { Array($0.utf8) }

    private struct Reading: Equatable {
        var data: [UInt8] = []
        var used = 0
        var hasEnded = false
        var refusal: HTTPRefusal?
    }

    static func run(_ input: [UInt8]) {
        guard input.count > 2 else { return }
        let bytes = Array(input[2...])
        let whole = read(bytes, [bytes.count], limit: .max)
        expect(whole.data.count <= 200, "more data than is allowed")
        expect(whole.used <= bytes.count, "more bytes than there are")
        if !whole.hasEnded, whole.refusal == nil { expect(whole.used == bytes.count, "bytes are left") }
        let sizes = input[..<2].map { Int($0 & 31) + 1 }
        for limit in [Int.max, sizes[1]] {
            let pieces = read(bytes, sizes, limit: limit)
            expect(pieces.hasEnded == whole.hasEnded && pieces.refusal == whole.refusal, "another end in pieces")
            expect(pieces.data == whole.data, "other data in pieces")
            if whole.hasEnded { expect(pieces.used == whole.used, "another length in pieces") }
        }
    }

    private static func read(_ bytes: [UInt8], _ sizes: [Int], limit: Int) -> Reading {
        var body = ChunkedBody(overheadLimit: 100, dataLimit: 200)
        var reading = Reading()
        var turn = 0
        while reading.used < bytes.count, !reading.hasEnded {
            let end = min(reading.used + sizes[turn % sizes.count], bytes.count)
            turn += 1
            while reading.used < end, !reading.hasEnded {
                do throws(HTTPRefusal) {
                    switch try body.advance(bytes[reading.used..<end].span, limit: limit) {
                    case .used(let count):
                        expect(count == end - reading.used, "bytes are left in a piece")
                        reading.used += count
                    case .end(let used):
                        reading.used += used
                        reading.hasEnded = true
                    case .data(let used, let count):
                        expect(count > 0 && count <= limit, "a piece of \(count)")
                        reading.data += bytes[reading.used + used..<reading.used + used + count]
                        reading.used += used + count
                    }
                } catch {
                    reading.refusal = error
                    return reading
                }
            }
        }
        return reading
    }
}
