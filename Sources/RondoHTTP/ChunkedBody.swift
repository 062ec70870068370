// A body in chunks (RFC 9112, 7.1), taken apart byte by byte across whatever pieces it arrives in. As strict as the
// head.

import HTTPTypes

/// Where in a chunked body we are.
struct ChunkedBody {
    private enum State {
        case size, sizeLineFeed, chunkExtension
        case data
        case dataEnd, dataLineFeed
        case trailerStart, trailer, trailerLineFeed
        case lastLineFeed
        case end
    }

    private var state = State.size
    /// Bytes of this chunk that are still to come.
    private var left = 0
    /// Digits of the size so far.
    private var digits = 0
    /// Bytes that are no data: of extensions and trailers.
    private var overhead = 0
    /// Bytes of data that the chunks so far have announced.
    private var announced = 0
    /// Most bytes beside the data of a whole body, and most data.
    private let overheadLimit: Int
    private let dataLimit: Int

    init(overheadLimit: Int, dataLimit: Int) {
        self.overheadLimit = overheadLimit
        self.dataLimit = dataLimit
    }

    enum Step: Equatable {
        /// So many bytes are used up, and no data was among them.
        case used(Int)
        /// So many bytes are used up; data follows, as many bytes as are there at most.
        case data(used: Int, count: Int)
        /// So many bytes are used up, and the body has ended.
        case end(used: Int)
    }

    /// Reads on in `bytes`, to the next data, at most `limit` bytes of it, or to the end.
    mutating func advance(_ bytes: Span<UInt8>, limit: Int = .max) throws(HTTPRefusal) -> Step {
        var index = 0
        while index < bytes.count {
            if state == .data {
                let count = min(left, limit, bytes.count - index)
                left -= count
                if left == 0 { state = .dataEnd }
                return .data(used: index, count: count)
            }
            try take(bytes[index])
            index += 1
            if state == .end { return .end(used: index) }
        }
        return .used(index)
    }

    private mutating func take(_ byte: UInt8) throws(HTTPRefusal) {
        switch state {
        case .size: try takeSize(byte)
        case .chunkExtension:
            try spendOverhead()
            if byte == .carriageReturn { state = .sizeLineFeed } else { try check(byte) }
        case .sizeLineFeed:
            try expect(byte, .lineFeed)
            state = left == 0 ? .trailerStart : .data
            digits = 0
        case .data, .end: break
        case .dataEnd:
            try expect(byte, .carriageReturn)
            state = .dataLineFeed
        case .dataLineFeed:
            try expect(byte, .lineFeed)
            state = .size
        case .trailerStart, .trailer:
            if byte == .carriageReturn {
                state = state == .trailerStart ? .lastLineFeed : .trailerLineFeed
            } else {
                try spendOverhead()
                try check(byte)
                state = .trailer
            }
        case .trailerLineFeed:
            try expect(byte, .lineFeed)
            state = .trailerStart
        case .lastLineFeed:
            try expect(byte, .lineFeed)
            state = .end
        }
    }

    private mutating func takeSize(_ byte: UInt8) throws(HTTPRefusal) {
        if let digit = Self.value(ofHexadecimal: byte) {
            digits += 1
            if digits > 15 { throw HTTPRefusal(.contentTooLarge, "a chunk's size is absurd") }
            left = left << 4 | digit
            return
        }
        if digits == 0 { throw HTTPRefusal(.badRequest, "a chunk has no size") }
        announced += left
        if announced > dataLimit { throw HTTPRefusal(.contentTooLarge, "the body is too large") }
        switch byte {
        case .carriageReturn: state = .sizeLineFeed
        case UInt8(ascii: ";"): state = .chunkExtension
        default: throw HTTPRefusal(.badRequest, "a chunk's size is no number")
        }
    }

    private static func value(ofHexadecimal byte: UInt8) -> Int? {
        if byte.isDigit { return Int(byte - UInt8(ascii: "0")) }
        let letter = byte | 0x20
        return letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "f") ? Int(letter - UInt8(ascii: "a")) + 10 : nil
    }

    private mutating func spendOverhead() throws(HTTPRefusal) {
        overhead += 1
        if overhead > overheadLimit {
            throw HTTPRefusal(.requestHeaderFieldsTooLarge, "the body has too much beside its data")
        }
    }

    private func check(_ byte: UInt8) throws(HTTPRefusal) {
        if byte < 0x20 && byte != .tab || byte == 0x7F {
            throw HTTPRefusal(.badRequest, "a control character stands beside a chunk")
        }
    }

    private func expect(_ byte: UInt8, _ expected: UInt8) throws(HTTPRefusal) {
        if byte != expected { throw HTTPRefusal(.badRequest, "a chunk does not end where it should") }
    }
}
