import CCurl
import Rondo

/// A request's body on its way: what was put in and libcurl has not taken yet. It belongs to the client's actor.
final class Upload {
    /// How many bytes may wait.
    private static let limit = 128 * 1024

    private var waiting: [UInt8]
    private var position = 0
    private var isComplete: Bool
    private var hasGiven = false
    private var isClosed = false
    /// Whether it can begin anew: the bytes are all there from the start.
    private let isWhole: Bool
    /// Whether libcurl found nothing and waits to be told.
    var isPaused = false
    /// Why the body can't be sent to its end.
    private(set) var failure: (any Error)?
    /// Wakes who puts bytes in.
    let room = Notify()
    /// Puts them in.
    var pump: Task<Void, Never>?

    /// - Parameter bytes: the whole body; nil if it is put in bit by bit.
    init(_ bytes: [UInt8]?) {
        waiting = bytes ?? []
        isWhole = bytes != nil
        isComplete = isWhole
    }

    var hasRoom: Bool { waiting.count - position < Self.limit }
    var isOver: Bool { isClosed }

    func put(_ bytes: [UInt8]) {
        if position > 0 {
            waiting.removeFirst(position)
            position = 0
        }
        waiting += bytes
    }

    /// No more will come; with an error, because it can't.
    func finish(_ error: (any Error)?) {
        isComplete = true
        failure = error
    }

    /// The transfer is over.
    func close() {
        isClosed = true
        pump?.cancel()
        room.notifyOne()
    }

    func rewind() -> Bool {
        if !isWhole, hasGiven { return false }
        position = 0
        return true
    }

    /// What libcurl's callback answers.
    func give(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        if failure != nil { return Int(CURL_READFUNC_ABORT) }
        let count = min(buffer.count, waiting.count - position)
        if count == 0 {
            if isComplete { return 0 }
            isPaused = true
            return Int(CURL_READFUNC_PAUSE)
        }
        // SAFETY: there is room for so many.
        unsafe buffer.copyBytes(from: waiting[position..<position + count])
        position += count
        hasGiven = true
        if hasRoom { room.notifyOne() }
        return count
    }
}
