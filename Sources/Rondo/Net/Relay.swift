// Two connections made one, as a proxy does.

/// How many bytes a ``relay(_:_:)`` has passed on.
public struct RelayCounts: Hashable, Sendable {
    /// From the first stream to the second.
    public var forward: Int
    /// From the second to the first.
    public var back: Int

    /// Both counts.
    public init(forward: Int, back: Int) {
        self.forward = forward
        self.back = back
    }
}

/// Passes on all that comes on each of two connections to the other, until both have ended.
///
/// When one peer sends no more, the other is told so, and the other direction goes on. A peer that does not read stops
/// the one that sends. Neither connection is closed. Both are best on one loop: then the kernel moves what comes in
/// bulk, as ``copy(from:to:limit:)`` says.
///
/// - Throws: the error of the direction that failed first; the other one is given up then, and so it is if the task is
///   cancelled. The connections are then good for nothing but closing, or better ``SocketStream/abort()``, so that
///   their peers don't take what came for all there was.
@discardableResult
public func relay(_ first: SocketStream, _ second: SocketStream) async throws(IOError) -> RelayCounts {
    var counts = RelayCounts(forward: 0, back: 0)
    var failure: IOError?
    await withTaskGroup(of: (isForward: Bool, Result<Int, IOError>).self) { group in
        for isForward in [true, false] {
            let (source, sink) = isForward ? (first, second) : (second, first)
            group.addTask(executorPreference: first.loop.sharedFace) {
                do throws(IOError) {
                    let count = try await copy(from: source, to: sink)
                    try await sink.finishWriting()
                    return (isForward, .success(count))
                } catch {
                    return (isForward, .failure(error))
                }
            }
        }
        for await (isForward, result) in group {
            switch result {
            case .success(let count) where isForward: counts.forward = count
            case .success(let count): counts.back = count
            case .failure(let error):
                failure = failure ?? error
                group.cancelAll()
            }
        }
    }
    if let failure { throw failure }
    return counts
}
