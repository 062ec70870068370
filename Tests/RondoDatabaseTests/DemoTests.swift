#if PostgreSQL
// `rondo demo` with its index in a server.

import Glibc
import Rondo
import SystemPackage
import Testing

extension DatabaseSuites.Postgres {
    @Suite struct DemoTests {
        @Test func theIndexIsKeptInTheServer() throws {
            let cluster = try PostgresCluster.shared.get()
            let place = "postgres://postgres@127.0.0.1:\(cluster.port)/postgres?sslmode=disable"
            try EventLoop.run {
                try await TemporaryDirectory.with { folder in
                    for name in ["a", "b", "c"] {
                        try await File.write(Array("content of \(name)".utf8), to: folder.appending(name))
                    }
                    // Made in the first run, used in the second.
                    for _ in 0..<2 {
                        let outcome = try await ChildProcess.run(
                            ChildProcess.Command(
                                try command(),
                                [
                                    "demo", "--folder", "\(folder)", "--database", place, "--orders", "60", "--latency",
                                    "1", "--sequential-budget", "0.01", "--json",
                                ]))
                        #expect(outcome.status == .exited(0), "\(String(decoding: outcome.errors, as: UTF8.self))")
                        #expect(outcome.text.contains(#""failed": 0"#), "\(outcome.text)")
                    }
                    let rows = try cluster.psql(
                        "SELECT path, size FROM rondo_demo_file WHERE folder = '\(folder)' ORDER BY path")
                    #expect(rows == "a|12\nb|12\nc|12\n")
                }
            }
        }

        /// The command is built beside the tests.
        private func command() throws -> String {
            try shell("dirname $(readlink /proc/\(getpid())/exe)").split(separator: "\n")[0] + "/rondo"
        }
    }
}
#endif
