// Finds the end of HTTP/1.1 answers, and looks at nothing that a load generator does not need: its own cost must not be
// what it measures.

/// Follows one answer after another on a connection (RFC 9112, section 6). Pure.
struct ResponseScanner {
    // SAFETY: the bytes that `take` gets are the caller's for the time of the call, and are not kept.

    /// What has come so far.
    enum Progress: Equatable {
        /// More must come.
        case incomplete
        /// An answer is there: its status, and whether the connection can be used again.
        case complete(status: Int, keepsConnection: Bool)
        /// This is not HTTP.
        case malformed
    }

    private enum State { case head, body(Int), chunkSize, chunk(Int), chunkEnd, trailer, untilEnd }

    /// Of head, chunk sizes and trailer of one answer, in bytes.
    private static let lineLimit = 64 * 1024

    private let hasBody: Bool
    private var state = State.head
    /// What has come of a line whose end has not.
    private var line: [UInt8] = []
    private var lineBytes = 0
    private var status = 0
    private var length: Int?
    private var isChunked = false
    private var keepsConnection = true

    /// - Parameter hasBody: false for answers to HEAD.
    init(hasBody: Bool = true) { self.hasBody = hasBody }

    /// The status of an answer whose body ends with the connection; nil if the end comes too early for anything.
    var statusAtEnd: Int? {
        if case .untilEnd = state { return status }
        return nil
    }

    /// Takes the next bytes of a connection. Bytes behind the end of an answer are malformed: nothing was asked yet.
    mutating func take(_ bytes: UnsafeRawBufferPointer) -> Progress {
        var rest = unsafe bytes[...]
        while unsafe !rest.isEmpty {
            switch state {
            case .untilEnd: return .incomplete
            case .body(let left):
                let count = unsafe rest.count
                if left <= count { return complete(hasMore: left < count) }
                state = .body(left - count)
                return .incomplete
            case .chunk(let left):
                let count = unsafe rest.count
                state = left <= count ? .chunkEnd : .chunk(left - count)
                unsafe rest = rest.dropFirst(left)
            case .head, .chunkSize, .chunkEnd, .trailer:
                let end = unsafe rest.firstIndex(of: 0x0a)
                let piece = unsafe rest.prefix(upTo: end ?? rest.endIndex)
                unsafe rest = rest.dropFirst(piece.count + 1)
                lineBytes += unsafe piece.count + 1
                if lineBytes > Self.lineLimit { return .malformed }
                unsafe line.append(contentsOf: piece)
                if end == nil { return .incomplete }
                if line.last == 0x0d { line.removeLast() }
                guard let isComplete = takeLine() else { return .malformed }
                line.removeAll(keepingCapacity: true)
                if isComplete { return unsafe complete(hasMore: !rest.isEmpty) }
            }
        }
        return .incomplete
    }

    private mutating func complete(hasMore: Bool) -> Progress {
        let progress = Progress.complete(status: status, keepsConnection: keepsConnection)
        (state, lineBytes, status, length, isChunked, keepsConnection) = (.head, 0, 0, nil, false, true)
        line.removeAll(keepingCapacity: true)
        return hasMore ? .malformed : progress
    }

    /// - Returns: whether the answer is complete; nil if the line makes no sense.
    private mutating func takeLine() -> Bool? {
        switch state {
        case .head where status == 0: return takeStatus() ? false : nil
        case .head where line.isEmpty: return endHead()
        case .head: return takeField() ? false : nil
        case .chunkEnd:
            state = .chunkSize
            return line.isEmpty ? false : nil
        case .chunkSize:
            guard let size = number(line.prefix { $0 != UInt8(ascii: ";") && $0 != 0x20 }, radix: 16) else {
                return nil
            }
            state = size == 0 ? .trailer : .chunk(size)
            return false
        case .trailer: return line.isEmpty
        case .body, .chunk, .untilEnd: return nil
        }
    }

    /// `HTTP/1.1 200 OK`
    private mutating func takeStatus() -> Bool {
        guard line.count >= 12, line.starts(with: "HTTP/1.".utf8), line[8] == 0x20,
            line.count == 12 || line[12] == 0x20,
            let number = number(line[9..<12], radix: 10), number >= 100
        else { return false }
        status = number
        keepsConnection = line[7] != UInt8(ascii: "0")
        return true
    }

    private mutating func takeField() -> Bool {
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return false }
        // Most fields are told apart by the length of their names alone.
        switch colon {
        case 14 where isName("content-length"):
            length = number(line[(colon + 1)...].drop { $0 == 0x20 || $0 == 0x09 }, radix: 10)
            return length != nil
        case 17 where isName("transfer-encoding"): isChunked = value(after: colon).hasSuffix("chunked")
        case 10 where isName("connection"):
            let words = value(after: colon)
            if words.contains("close") { keepsConnection = false }
            if words.contains("keep-alive") { keepsConnection = true }
        default: break
        }
        return true
    }

    private mutating func endHead() -> Bool {
        if (100..<200).contains(status) {
            // Another answer follows.
            (status, length, isChunked) = (0, nil, false)
            return false
        }
        if !hasBody || status == 204 || status == 304 { return true }
        if isChunked {
            state = .chunkSize
        } else if let length {
            if length == 0 { return true }
            state = .body(length)
        } else {
            state = .untilEnd
        }
        return false
    }

    private func isName(_ name: String) -> Bool {
        line.prefix(name.utf8.count).elementsEqual(name.utf8) { $0 | 0x20 == $1 }
    }

    private func value(after colon: Int) -> String {
        var value = line[(colon + 1)...]
        while value.last == 0x20 || value.last == 0x09 { value.removeLast() }
        return String(decoding: value, as: UTF8.self).lowercased()
    }

    /// Digits and nothing else but blanks behind them; nil too for what is longer than any body.
    private func number(_ text: ArraySlice<UInt8>, radix: Int) -> Int? {
        var digits = text
        while digits.last == 0x20 || digits.last == 0x09 { digits.removeLast() }
        if digits.isEmpty || digits.count > 15 { return nil }
        var number = 0
        for digit in digits {
            guard let value = FetchList.digit(digit), value < radix else { return nil }
            number = number * radix + Int(value)
        }
        return number
    }
}
