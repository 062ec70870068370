// What the functions on paths have in common: C strings that live long enough, and errors that say which path.

import CRondo
import Glibc
import SystemPackage

extension EventLoop {
    /// As `perform`; with `toTheEnd` neither the task's cancellation nor the end of the loop ends it early, for
    /// cleaning up what must not stay.
    func perform(_ operation: Operation, toTheEnd: Bool) async -> Int32 {
        // SAFETY: the caller keeps what the operation points to until this returns.
        if !toTheEnd { return await unsafe perform(operation) }
        while true {
            // A task that has outlived its loop cleans up all the same.
            if isClosed, driver is any KernelDriver { return unsafe operation.performBlocking() }
            let answer = await unsafe performToTheEnd(operation)
            if answer != -ECANCELED || isClosed { return answer }
        }
    }
}

/// Runs operations on paths.
struct PathCalls {
    // SAFETY: each function waits for the last completion before it frees what the operation points to.

    let loop: EventLoop
    /// Whether nothing ends them early.
    var toTheEnd = false

    /// The calls of the current task's loop.
    init(for purpose: StaticString) { loop = EventLoop.required(for: purpose) }

    init(_ loop: EventLoop, toTheEnd: Bool = false) {
        self.loop = loop
        self.toTheEnd = toTheEnd
    }

    /// For cleaning up.
    var shielded: PathCalls { PathCalls(loop, toTheEnd: true) }

    /// One operation on a path. Answers what a driver does.
    func answer(_ path: FilePath, _ operation: (UnsafePointer<CChar>) -> FileOperation) async -> Int32 {
        unsafe await path.withCopy { path in
            await unsafe loop.perform(.file(operation(path)), toTheEnd: toTheEnd)
        }
    }

    /// One operation on two paths.
    func answer(
        _ path: FilePath, _ other: FilePath,
        _ operation: (UnsafePointer<CChar>, UnsafePointer<CChar>) -> FileOperation
    ) async -> Int32 {
        unsafe await path.withCopy { path in
            unsafe await other.withCopy { other in
                await unsafe loop.perform(.file(operation(path, other)), toTheEnd: toTheEnd)
            }
        }
    }

    /// One operation on a name in an open folder.
    func answer(name: [CChar], _ operation: (UnsafePointer<CChar>) -> FileOperation) async -> Int32 {
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: name.count)
        unsafe copy.initialize(from: name, count: name.count)
        defer { unsafe copy.deallocate() }
        return await unsafe loop.perform(.file(operation(copy)), toTheEnd: toTheEnd)
    }

    /// As `answer`, or an error.
    @discardableResult
    func run(
        _ verb: String, _ path: FilePath, _ operation: (UnsafePointer<CChar>) -> FileOperation
    ) async throws(IOError) -> Int32 {
        try Self.check(await unsafe answer(path, operation), verb, path.string)
    }

    @discardableResult
    static func check(_ answer: Int32, _ verb: String, _ subject: @autoclosure () -> String) throws(IOError) -> Int32 {
        if answer < 0 { throw IOError(verb, subject(), IOError.cause(ofAnswer: answer)) }
        return answer
    }

    /// Opens what a path leads to below a folder.
    func openBeneath(_ folder: FilePath, _ path: FilePath, _ verb: String) async throws(IOError) -> Descriptor {
        let answer = unsafe await answer(folder, path) { unsafe .openBeneath($0, $1) }
        if answer == -EXDEV {
            throw IOError(verb, path.string, .invalid("it leads out of \(folder.string), or a link in it is absolute"))
        }
        try Self.check(answer, verb, folder.pushing(path).string)
        return Descriptor(rawValue: answer)
    }

    /// Closes what one of these operations has opened.
    func close(_ descriptor: Descriptor) async {
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
    }

    /// The status of a name in an open folder; nil if it can't be told.
    func linkStatus(in folder: Descriptor, name: [CChar]) async -> (FileStatus?, answer: Int32) {
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        unsafe raw.initialize(to: rondo_statx())
        defer { unsafe raw.deallocate() }
        let answer = await unsafe answer(name: name) { unsafe .linkStatus(in: folder, $0, raw) }
        return answer < 0 ? (nil, answer) : unsafe (FileStatus(raw.pointee), answer)
    }
}
