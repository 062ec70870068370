// A TCP relay, or a server of one file, that copies in one of two ways, for relay-compare: as `copy(from:to:)` does, or
// with chunks alone.
//
//     swift run -c release --package-path Benchmarks --static-swift-stdlib relay copy|chunks PORT|PATH
//
// It prints where it listens, and passes each connection on to 127.0.0.1:PORT, both ways, or sends it the file of PATH.
// Ctrl-C ends it.

import Glibc
import Rondo
import SystemPackage

/// What `copy(from:to:)` does with little or slow data, with all of it.
func copyChunks(from source: TCPStream, to sink: TCPStream) async throws {
    while let chunk = try await source.read() { try await sink.write(chunk) }
    try await sink.finishWriting()
}

@main
struct Relay: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 2, let way = arguments.first, ["copy", "chunks"].contains(way),
            let goal = arguments.last
        else { throw UsageError() }
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        print("listening on \(listener.localAddress)")
        fflush(nil)
        guard let port = Int(goal) else { return try await serveFile(FilePath(goal), way: way, listener) }
        try await listener.serve { client in
            let server = try await TCPStream.connect(to: .loopback(port: port))
            if way == "copy" {
                try await relay(client, server)
            } else {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await copyChunks(from: client, to: server) }
                    group.addTask { try await copyChunks(from: server, to: client) }
                    try await group.waitForAll()
                }
            }
            await server.close()
        }
    }

    private func serveFile(_ path: FilePath, way: String, _ listener: TCPListener) async throws {
        try await listener.serve { client in
            try await File.with(path, .read) { (file) async throws(IOError) in
                if way == "copy" {
                    try await copy(from: file.source(), to: client)
                } else {
                    let source = file.source()
                    while let chunk = try await source.read() { try await client.write(chunk) }
                }
            }
            try await client.finishWriting()
        }
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: relay copy|chunks PORT|PATH" }
}
