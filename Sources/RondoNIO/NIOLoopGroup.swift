// Several loops, as NIO's group of event loops.

public import Dispatch
public import NIOCore
public import Rondo
import Synchronization

/// The loops of a runtime, as a NIO `EventLoopGroup`.
///
/// It makes no threads: who gets it from `Runtime.current` hands NIO the loops that the program has anyway.
public final class NIOLoopGroup: EventLoopGroup {
    /// The loops' faces.
    public let loops: [NIOLoop]
    private let turn = Atomic(0)

    /// A group of these loops, at least one.
    public init(_ loops: [Rondo.EventLoop]) {
        precondition(!loops.isEmpty, "a group of event loops has at least one")
        self.loops = loops.map { $0.nio }
    }

    /// The loops of `runtime`; without a runtime the loop that the caller runs on.
    public convenience init(_ runtime: Runtime? = Runtime.current) {
        let loops = runtime?.loops ?? Rondo.EventLoop.current.map { [$0] }
        guard let loops else {
            fatalError("NIOLoopGroup() was called outside of an event loop: call it in a RondoProgram")
        }
        self.init(loops)
    }

    /// Each loop in turn.
    public func next() -> any NIOCore.EventLoop {
        let (number, _) = turn.wrappingAdd(1, ordering: .relaxed)
        return loops[Int(UInt(bitPattern: number) % UInt(loops.count))]
    }

    /// The caller's own loop, if it is one of these.
    public func any() -> any NIOCore.EventLoop { loops.first { $0.inEventLoop } ?? next() }

    public func makeIterator() -> EventLoopIterator { EventLoopIterator(loops) }

    /// As ``NIOLoop/shutdownGracefully(queue:_:)``, for all of them.
    public func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        let left = DispatchGroup()
        for loop in loops {
            left.enter()
            loop.shutdownGracefully(queue: queue) { _ in left.leave() }
        }
        left.notify(queue: queue) { callback(nil) }
    }
}
