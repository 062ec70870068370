// What `rondo doctor` shows of io_uring: each part by itself, tried with a real ring and real connections.

import CRondo
import Glibc
package import SystemPackage

/// One part of io_uring, and whether it works here.
package struct UringCheck: Sendable {
    package enum Verdict: Sendable, Hashable {
        case works
        case refused(Errno)
        /// What it builds on does not work.
        case notTried
    }

    package var name: String
    /// What the part is good for.
    package var purpose: String
    /// Whether the driver can't do without it.
    package var isRequired: Bool
    package var verdict = Verdict.notTried
}

extension UringProbe {
    /// Tries every part that the driver uses.
    package static func checks() -> [UringCheck] {
        var checks = [
            UringCheck(name: "ring", purpose: "a queue into the kernel (Linux 6.1)", isRequired: true),
            UringCheck(name: "no-op", purpose: "an operation goes through it", isRequired: true),
            UringCheck(name: "provided buffers", purpose: "idle connections hold no memory", isRequired: true),
            UringCheck(name: "shared buffers", purpose: "small messages share a buffer (6.12)", isRequired: false),
            UringCheck(name: "absolute waits", purpose: "a wait ends on the nanosecond (6.12)", isRequired: false),
            UringCheck(name: "multishot accept", purpose: "one operation takes all connections", isRequired: true),
            UringCheck(name: "multishot receive", purpose: "one operation per connection", isRequired: true),
            UringCheck(name: "cancellation", purpose: "an operation is given up at once", isRequired: true),
        ]
        let verdicts = verdicts()
        for index in verdicts.indices { checks[index].verdict = verdicts[index] }
        return checks
    }

    /// In the order of `checks()`, up to the one on which the rest depends.
    private static func verdicts() -> [UringCheck.Verdict] {
        do throws(Errno) {
            let ring = try UringRing(entries: 8, waitsUntilAbsoluteTime: false)
            var features = UringFeatures()
            switch run() {
            case .success(let found): features = found
            case .failure(let refusal) where refusal.step == "no-op": return [.works, .refused(refusal.errno)]
            case .failure(let refusal): return [.works, .works, .refused(refusal.errno)]
            }
            let shared = registerBuffers(on: ring.fd, flags: RONDO_BUFFER_RING_INCREMENTAL)
            let first: [UringCheck.Verdict] = [
                .works, .works, .works, shared.map { .refused($0) } ?? .works,
                features.absoluteWait ? .works : .refused(.invalidArgument),
            ]
            do throws(Errno) {
                return first + (try ConnectionTrial(features).run())
            } catch {
                return first + [.refused(error)]
            }
        } catch {
            return [.refused(error)]
        }
    }
}

/// Two connections to ourselves, through a driver of our own.
@safe
private struct ConnectionTrial {
    private static let acceptID = OperationID(slot: 0, generation: 1)
    private static let receiveID = OperationID(slot: 1, generation: 1)
    private let driver: UringDriver

    init(_ features: UringFeatures) throws(Errno) {
        driver = try UringDriver(
            choice: DriverChoice(kind: .uring, reason: "", features: features),
            receiveBuffers: ReceiveBuffers(initialCount: 1, capacity: 8), offload: OffloadPool(threadLimit: 1))
    }

    /// Multishot accept, multishot receive, cancellation.
    func run() throws(Errno) -> [UringCheck.Verdict] {
        defer { driver.close() }
        var open: [Descriptor] = []
        defer { for descriptor in open { driver.closeNow(descriptor) } }

        let listener = try driver.openSocket(for: .loopback(port: 0))
        open.append(listener)
        try driver.listen(listener, on: .loopback(port: 0), backlog: 8)
        let address = try driver.localAddress(of: listener)
        unsafe driver.submit(.accept(listener), as: Self.acceptID)
        var isMultishot = true
        for _ in 0..<2 {
            open.append(try driver.openSocket(for: address))
            try connect(open.last!, to: address)
            guard let completion = next(of: Self.acceptID), completion.result >= 0 else { return [.refused(.timedOut)] }
            open.append(Descriptor(rawValue: completion.result))
            if !completion.more {
                isMultishot = false
                break
            }
        }
        guard isMultishot else { return [.refused(.invalidArgument)] }

        let (client, server) = (open[1], open[2])
        unsafe driver.submit(.receive(server), as: Self.receiveID)
        for _ in 0..<2 {
            var byte: UInt8 = 1
            // SAFETY: sends one byte from one byte.
            try systemCall { unsafe send(client.rawValue, &byte, 1, Int32(MSG_NOSIGNAL)) }
            guard let completion = next(of: Self.receiveID), completion.result == 1 else {
                return [.works, .refused(.timedOut)]
            }
            driver.receiveBuffers.release(completion.slice)
            if !completion.more { return [.works, .refused(.invalidArgument)] }
        }
        for id in [Self.receiveID, Self.acceptID] {
            driver.cancel(id)
            guard let completion = next(of: id), !completion.more else { return [.works, .works, .refused(.timedOut)] }
        }
        return [.works, .works, .works]
    }

    private func connect(_ socket: Descriptor, to address: SocketAddress) throws(Errno) {
        // SAFETY: the address is only lent for the call.
        try systemCall { unsafe address.withSockaddr { unsafe Glibc.connect(socket.rawValue, $0, $1) } }
    }

    /// The next completion of an operation, within a second.
    private func next(of id: OperationID) -> Completion? {
        let deadline = driver.now + 1_000_000_000
        while driver.now < deadline {
            if let completion = driver.nextCompletion() {
                if completion.operation == id { return completion }
                continue
            }
            driver.wait(until: deadline)
        }
        return nil
    }
}
