// AsyncHTTPClient and gRPC in a Rondo program: their sockets are on NIO's threads, their async code and what calls it
// on the loop. The program says what it has seen; the tests read it.
//
//     client-probe http | grpc

import GRPCCore
import Glibc
import Rondo

@main
struct Probe: RondoProgram {
    func run() async throws {
        let home = Home()
        switch CommandLine.arguments.dropFirst().first {
        case "http": try await home.fetch(count: 200)
        case "grpc": try await home.call(count: 200)
        default: throw RPCError(code: .invalidArgument, message: "usage: client-probe http | grpc")
        }
        print("looked \(home.looks) times, elsewhere \(home.strays) times")
    }
}

/// The thread that the program began on, and how often its code was found there, or not.
final class Home: @unchecked Sendable {
    // SAFETY: where it is used from another thread `strays` counts that, if not to the last one: any is one too many.
    private let thread = pthread_self()
    private(set) var looks = 0
    private(set) var strays = 0

    /// To be called before and after whatever waits.
    func look() {
        looks += 1
        if pthread_self() != thread || Rondo.EventLoop.current?.isCurrent != true { strays += 1 }
    }
}
