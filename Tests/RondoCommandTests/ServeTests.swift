// `rondo serve` as its user sees it: the line that says where, curl as the client, a signal as the end.

import Glibc
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

    /// Runs `body` while `rondo serve` serves a folder; it is told where.
    private func serving(
        _ folder: String, _ arguments: [String], _ body: sending @escaping (String) async throws -> Void
    ) throws {
        try EventLoop.run {
            var command = ChildProcess.Command(
                CommandUnderTest.path, ["serve", folder, "--port", "0", "--quiet"] + arguments)
            command.output = .pipe
            let child = try await ChildProcess.start(command)
            let lines = BufferedReader(try #require(child.output))
            let first = try #require(try await lines.readLine())
            do { try await body(String(first.split(separator: " ").last!)) } catch { Issue.record(error) }
            _ = try child.signal(.terminate)
            let status = try await child.waitUntilExit()
            #expect(status == .exited(0))
            await child.output?.close()
        }
    }

    private func curl(_ arguments: String...) async throws -> ChildProcess.Output {
        try await ChildProcess.run(ChildProcess.Command("curl", ["-sS"] + arguments))
    }

    @Test func byTLSInBothVersions() throws {
        let scratch = try ScratchFolder()
        try Self.makeCertificate("a", in: scratch)
        scratch.makeFolder("files")
        let text = String(repeating: "hello, world\n", count: 10_000)
        try scratch.write(text, to: "files/a.txt")
        let (folder, certificate) = (scratch.path + "/files", scratch.path + "/a.pem")
        try serving(folder, ["--cert", certificate, "--key", scratch.path + "/a.key"]) { url in
            #expect(url.hasPrefix("https://127.0.0.1:"))
            let version = ["-w", "%{http_version}", "-o", "/dev/null"]
            for (option, expected) in [("--http1.1", "1.1"), ("--http2", "2"), ("--http1.0", "1.1")] {
                // The certificate is checked: nobody says --insecure here.
                let spoken = try await curl(
                    "--cacert", certificate, option, version[0], version[1], version[2], version[3], url + "a.txt")
                #expect(spoken.text == expected, "\(spoken)")
                let packed = try await curl("--cacert", certificate, option, "--compressed", url + "a.txt")
                #expect(packed.text == text)
                let part = try await curl("--cacert", certificate, option, "-r", "7-11", url + "a.txt")
                #expect(part.text == "world")
            }
            let distrusted = try await curl(url + "a.txt")
            #expect(distrusted.status == .exited(60), "a certificate that nobody vouches for")
            for (highest, works) in [("1.1", false), ("1.2", true), ("1.3", true)] {
                let spoken = try await curl(
                    "--cacert", certificate, "--tlsv1.0", "--tls-max", highest, "--ciphers", "DEFAULT@SECLEVEL=0",
                    url + "a.txt")
                #expect((spoken.status == .exited(0)) == works, "TLS \(highest)")
            }
            let plain = try await curl(url.replacing("https:", with: "http:") + "a.txt")
            #expect(plain.status != .exited(0))
        }
    }

    @Test func withoutTLSInBothVersions() throws {
        let scratch = try ScratchFolder()
        let text = String(repeating: "hello, world\n", count: 10_000)
        try scratch.write(text, to: "a.txt")
        for (arguments, saves) in [([], true), (["--no-gzip"], false)] {
            try serving(scratch.path, arguments) { url in
                for option in ["--http1.1", "--http2-prior-knowledge"] {
                    let packed = try await curl(option, "--compressed", "-w", "%{size_download}", url + "a.txt")
                    #expect(packed.text.hasPrefix(text))
                    let size = try #require(Int(packed.text.dropFirst(text.utf8.count)))
                    #expect((size < text.utf8.count / 10) == saves)
                }
            }
        }
    }

    // MARK: What is wrong

    @Test func whatCanNotBeServedIsSaid() throws {
        let missing = try CommandUnderTest.run(["serve", "/nowhere"])
        #expect(missing.status == 1 && missing.errors.contains("/nowhere"))
        let half = try CommandUnderTest.run(["serve", "/", "--cert", "x"])
        #expect(half.status == 64 && half.errors.contains("--cert and --key go together"))
    }

    @Test func whatIsWrongWithCertificateAndKeyIsSaid() throws {
        let scratch = try ScratchFolder()
        try Self.makeCertificate("a", in: scratch)
        try Self.makeCertificate("b", in: scratch)
        try scratch.write("hello", to: "text")
        try scratch.write("", to: "empty")
        try scratch.write(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", to: "broken")
        let folder = scratch.path
        for (certificate, key, expected) in [
            ("none", "a.key", "read the certificate \(folder)/none: No such file or directory (check the path)"),
            ("a.pem", "none", "read the key \(folder)/none: No such file or directory (check the path)"),
            ("", "a.key", "read the certificate \(folder)/: Is a directory"),
            ("text", "a.key", "read the certificate \(folder)/text: there is none in it: PEM begins with"),
            ("empty", "a.key", "read the certificate \(folder)/empty: there is none in it: PEM begins with"),
            ("broken", "a.key", "read the certificate \(folder)/broken: there is none in it: PEM begins with"),
            ("a.key", "a.key", "read the certificate \(folder)/a.key: there is none in it: PEM begins with"),
            ("a.pem", "text", "read the key \(folder)/text: there is none in it that needs no passphrase: PEM begins"),
            ("a.pem", "a.pem", "read the key \(folder)/a.pem: there is none in it that needs no passphrase"),
            (
                "a.pem", "b.key",
                "use the key \(folder)/b.key: it is not that of the first certificate in \(folder)/a.pem"
            ),
        ] {
            let outcome = try CommandUnderTest.run([
                "serve", folder, "--port", "0", "--cert", "\(folder)/\(certificate)", "--key", "\(folder)/\(key)",
            ])
            #expect(outcome.status == 1 && outcome.output.isEmpty)
            #expect(outcome.errors.hasPrefix("error: \(expected)"), "\(outcome.errors)")
        }
        // Root may read everything.
        guard getuid() != 0 else { return }
        unsafe chmod("\(folder)/a.key", 0)
        let outcome = try CommandUnderTest.run([
            "serve", folder, "--port", "0", "--cert", "\(folder)/a.pem", "--key", "\(folder)/a.key",
        ])
        #expect(
            outcome.errors.hasPrefix("error: read the key \(folder)/a.key: Permission denied (check owner and mode)"))
    }

    /// `NAME.pem`, which vouches for itself, and `NAME.key`.
    private static func makeCertificate(_ name: String, in folder: ScratchFolder) throws {
        let path = folder.path + "/" + name
        let output = try EventLoop.run {
            try await ChildProcess.run(
                ChildProcess.Command(
                    "openssl",
                    [
                        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                        "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        path + ".key", "-out", path + ".pem",
                    ]))
        }
        try #require(output.status == .exited(0), "\(output.text)")
    }
}
