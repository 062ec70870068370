// Copying from socket to socket: as chunks, and in bulk where much comes at once. Chunks are the better way for
// messages and for little; the kernel's own way (`BulkTransfer`) pays when many bytes wait each time somebody looks.

/// Notices when bytes come in bulk.
struct BulkDetector {
    /// So many bytes in a row are bulk.
    private(set) var threshold: Int
    /// Bytes since the last wait for few of them.
    private var run = 0
    /// Bytes since the last wait.
    private var piece = 0

    /// Fewer bytes than this between two waits are a message, and no part of anything larger.
    static let minimumPiece = 32 * 1024

    init(threshold: Int) { self.threshold = threshold }

    /// Notes `count` bytes that were read.
    ///
    /// - Parameter waited: whether they had to be waited for.
    /// - Returns: whether it is time to move them in bulk.
    mutating func note(_ count: Int, waited: Bool) -> Bool {
        if waited {
            if piece < Self.minimumPiece { run = 0 }
            piece = 0
        }
        piece += count
        run += count
        return run >= threshold
    }

    /// Begins anew, after bulk has ended.
    ///
    /// - Parameter later: whether it was not worth it, so that the next time is to be later.
    mutating func restart(later: Bool) {
        if later { threshold = threshold.multipliedReportingOverflow(by: 16).overflow ? .max : threshold * 16 }
        (run, piece) = (0, 0)
    }
}

extension SocketStream: DirectSource {
    final func copyDirectly(to sink: any ByteSink, limit: Int) async throws(IOError) -> Int? {
        guard let sink = sink as? SocketStream, sink.loop === loop else { return nil }
        return try await loop.onLoop { () async throws(IOError) in try await self.copyOnLoop(to: sink, limit: limit) }
    }

    private final func copyOnLoop(to sink: SocketStream, limit: Int) async throws(IOError) -> Int {
        var count = 0
        var detector = BulkDetector(threshold: loop.configuration.bulkThreshold)
        while count < limit {
            let waits = received.isEmpty
            guard let chunk = try await read(upTo: limit - count) else { return count }
            count += chunk.count
            let isBulk = detector.note(chunk.count, waited: waits)
            try await sink.write(chunk)
            if !isBulk || loop.transferPipes.isUnsupported { continue }
            // What was received goes first.
            await received.pause()
            while count < limit, !received.isEmpty, let chunk = try await read(upTo: limit - count) {
                count += chunk.count
                try await sink.write(chunk)
            }
            if count == limit { return count }
            let transfer = BulkTransfer(from: self, to: sink, limit: limit - count)
            let ending = try await transfer.run()
            count += transfer.count
            if ending == .done { return count }
            detector.restart(later: ending == .unsuitable)
        }
        return count
    }
}
