// `rondo serve` as its user sees it: the line that says where, curl as the client, a signal as the end.

import Rondo
import Testing

@Suite struct ServeTests {
    @Test func aFolderIsServedUntilASignal() throws {
        let scratch = try ScratchFolder()
        try scratch.write("hello", to: "a.txt")
        let folder = scratch.path
        try EventLoop.run {
            var command = ChildProcess.Command(CommandUnderTest.path, ["serve", folder, "--port", "0"])
            command.output = .pipe
            let child = try await ChildProcess.start(command)
            let lines = BufferedReader(try #require(child.output))
            let first = try #require(try await lines.readLine())
            let url = try #require(first.split(separator: " ").last)
            #expect(first.hasPrefix("serving /") && url.hasPrefix("http://127.0.0.1:"))
            let file = try await ChildProcess.run(ChildProcess.Command("curl", ["-s", url + "a.txt"]))
            #expect(file.text == "hello")
            let log = try #require(try await lines.readLine())
            #expect(log.hasPrefix("127.0.0.1:") && log.hasSuffix(" GET /a.txt 200 5"))
            _ = try child.signal(.terminate)
            let status = try await child.waitUntilExit()
            #expect(status == .exited(0))
            await child.output?.close()
        }
    }

    @Test func whatCanNotBeServedIsSaid() throws {
        let missing = try CommandUnderTest.run(["serve", "/nowhere"])
        #expect(missing.status == 1 && missing.errors.contains("/nowhere"))
        let half = try CommandUnderTest.run(["serve", "/", "--cert", "x"])
        #expect(half.status == 64 && half.errors.contains("--cert and --key go together"))
    }
}
