// The loop's raw operations in the shape that tests like: bytes as arrays, answers as numbers.

import CRondo
import Glibc
import SystemPackage

@testable import Rondo

/// Collects the completions of a multishot operation.
@safe
final class Answers: CompletionSink, @unchecked Sendable {
    // SAFETY: belongs to the loop's thread.
    private var completions: [Completion] = []
    private var waiter: UnsafeContinuation<Void, Never>?
    private(set) var isOver = false

    override func deliver(_ completion: Completion) {
        require(!isOver, "a completion after the last")
        completions.append(completion)
        isOver = !completion.more
        let waiter = unsafe waiter
        unsafe self.waiter = nil
        unsafe waiter?.resume()
    }

    var count: Int { completions.count }

    /// The next completion, waited for.
    func next() async -> Completion {
        while completions.isEmpty {
            await unsafe withUnsafeContinuation { continuation in unsafe waiter = continuation }
        }
        return completions.removeFirst()
    }
}

/// A multishot receive, with its bytes given back at once.
@safe
final class Receiving {
    let answers = Answers()
    let id: OperationID
    private let loop = EventLoop.current!

    init(_ socket: Descriptor) {
        id = unsafe loop.start(unsafe .receive(socket), sink: answers)
    }

    /// The next bytes, or the last completion's result.
    func next() async -> (bytes: [UInt8], end: Int32?) {
        let completion = await answers.next()
        guard completion.result > 0 else { return ([], completion.result) }
        let buffers = loop.driver.receiveBuffers
        // SAFETY: the slice is released after the copy.
        let bytes = unsafe Array(buffers.bytes(of: completion.slice))
        loop.release(completion.slice)
        return (bytes, completion.more ? nil : completion.result)
    }

    /// Exactly this many bytes, or what came before the end.
    func bytes(_ count: Int) async -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let (bytes, end) = await next()
            all += bytes
            if end != nil { break }
        }
        return all
    }

    /// Everything up to the end, and how it ended.
    func untilEnd() async -> (bytes: [UInt8], end: Int32) {
        var all: [UInt8] = []
        while true {
            let (bytes, end) = await next()
            all += bytes
            if let end { return (all, end) }
        }
    }

    func cancel() { loop.cancel(id) }
}

/// The raw operations on the current loop.
enum Raw {
    static var loop: EventLoop { EventLoop.current! }

    static func listen(_ port: Int, backlog: Int32 = 16) throws -> Descriptor {
        let socket = try loop.driver.openSocket(for: .loopback(port: port))
        try loop.driver.listen(socket, on: .loopback(port: port), backlog: backlog)
        return socket
    }

    static func accept(_ listener: Descriptor) -> (answers: Answers, id: OperationID) {
        let answers = Answers()
        return unsafe (answers, loop.start(unsafe .accept(listener), sink: answers))
    }

    static func connect(_ socket: Descriptor, _ port: Int) async -> Int32 {
        let address = UnsafeMutablePointer<SocketAddress>.allocate(capacity: 1)
        unsafe address.initialize(to: .loopback(port: port))
        defer { unsafe address.deallocate() }
        return unsafe await loop.perform(unsafe .connect(socket, address))
    }

    /// A connected socket, or a negated errno.
    static func connect(_ port: Int) async throws -> (socket: Descriptor, result: Int32) {
        let socket = try loop.driver.openSocket(for: .loopback(port: port))
        return (socket, await connect(socket, port))
    }

    static func send(_ socket: Descriptor, _ bytes: [UInt8]) async -> Int32 {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: bytes)
        return unsafe await loop.perform(
            unsafe .send(socket, UnsafeRawPointer(memory.baseAddress!), count: bytes.count))
    }

    /// Sends all bytes, however many sends it takes; answers 0 or a negated errno.
    static func sendAll(_ socket: Descriptor, _ bytes: [UInt8]) async -> Int32 {
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = await send(socket, Array(rest))
            if sent < 0 { return sent }
            rest = rest.dropFirst(Int(sent))
        }
        return 0
    }

    static func shutdown(_ socket: Descriptor, _ how: Int) async -> Int32 {
        unsafe await loop.perform(unsafe .shutdown(socket, how: Int32(how)))
    }

    @discardableResult
    static func close(_ descriptor: Descriptor) async -> Int32 {
        unsafe await loop.performToTheEnd(unsafe .close(descriptor))
    }

    static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0o666) async -> Int32 {
        unsafe await withPath(path) { unsafe await loop.perform(.open($0, flags: flags, mode: mode)) }
    }

    static func read(_ file: Descriptor, _ count: Int, at offset: UInt64 = .max) async -> (
        bytes: [UInt8], result: Int32
    ) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, count), alignment: 1)
        defer { unsafe memory.deallocate() }
        let result = unsafe await loop.perform(unsafe .read(file, memory.baseAddress!, count: count, offset: offset))
        return (unsafe Array(memory.prefix(max(0, Int(result)))), result)
    }

    static func write(_ file: Descriptor, _ bytes: [UInt8], at offset: UInt64 = .max) async -> Int32 {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: bytes)
        return unsafe await loop.perform(
            unsafe .write(file, UnsafeRawPointer(memory.baseAddress!), count: bytes.count, offset: offset))
    }

    static func status(_ descriptor: Descriptor?, _ path: String?) async -> (status: rondo_file_status, result: Int32) {
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        defer { unsafe raw.deallocate() }
        let result =
            if let path {
                unsafe await withPath(path) { unsafe await loop.perform(.status(descriptor, $0, raw)) }
            } else {
                unsafe await loop.perform(unsafe .status(descriptor, nil, raw))
            }
        var status = rondo_file_status()
        if result == 0 { unsafe rondo_statx_decode(raw, &status) }
        return (status, result)
    }

    static func list(_ path: String) async -> (names: [String], result: Int32) {
        let listing = DirectoryListing()
        let result = unsafe await withPath(path) { path in
            unsafe await loop.perform(.list(path, .passUnretained(listing)))
        }
        return (listing.entries.map(\.name), result)
    }

    static func offload(_ call: sending @escaping () -> Int32) async -> Int32 {
        let work = OffloadWork(call)
        let result = unsafe await loop.perform(unsafe .offload(.passUnretained(work)))
        return withExtendedLifetime(work) { result }
    }

    private static func withPath(_ path: String, _ body: (UnsafePointer<CChar>) async -> Int32) async -> Int32 {
        let text = unsafe strdup(path)!
        defer { unsafe free(text) }
        return await unsafe body(text)
    }
}

extension Int32 {
    /// The descriptor that an operation has answered.
    var descriptor: Descriptor { Descriptor(rawValue: self) }
}
