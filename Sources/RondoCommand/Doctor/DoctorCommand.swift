import ArgumentParser
import Glibc
import Rondo

/// `rondo doctor`: whether this machine lets Rondo do what it can, and what to do where it does not.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Show what the kernel and its limits let Rondo do here, and what to do about it.",
        discussion: """
            Each part of io_uring is tried by itself, with a real ring and real connections. The marks: ok is good, \
            low works and may be in the way some day, no does not work. The exit status is 0 if a program can run on \
            Rondo here, 1 if not (RONDO_DRIVER names a driver that does not work or does not exist).
            """)

    @Flag(help: "Print one JSON object instead.")
    var json = false

    func run() throws {
        let choice: Result<DriverChoice, IOError>
        do throws(IOError) { choice = .success(try DriverChoice.make(forced: nil)) } catch { choice = .failure(error) }
        let kernel = KernelFindings.all()
        let limits = LimitFindings.all()
        Terminal.output.write(json ? object(choice, kernel, limits) : text(choice, kernel, limits, .output))
        if case .failure = choice { throw ExitCode(1) }
    }

    private func text(
        _ choice: Result<DriverChoice, IOError>, _ kernel: [Finding], _ limits: [Finding], _ terminal: Terminal
    ) -> String {
        let width = max(40, min(terminal.width, 100))
        let driver: Finding
        switch choice {
        case .success(let choice):
            driver = Finding(name: "driver", verdict: .good, value: "\(choice.kind.rawValue): \(choice.reason)")
        case .failure(let error):
            driver = Finding(
                name: "driver", verdict: .bad, value: "\(error)",
                advice: "unset RONDO_DRIVER, and Rondo takes what works")
        }
        let asked = Finding(name: "RONDO_DRIVER", verdict: .good, value: Self.setting ?? "not set: Rondo chooses")
        var lines = [terminal.paint("Driver", .bold)]
        for finding in [driver, asked] { lines += finding.lines(for: terminal, width: width) }
        lines += ["", terminal.paint("io_uring on Linux \(Self.kernelRelease)", .bold)]
        for finding in kernel { lines += finding.lines(for: terminal, width: width) }
        lines += ["", terminal.paint("Limits", .bold)]
        for finding in limits { lines += finding.lines(for: terminal, width: width) }
        let findings = [driver] + kernel + limits
        let (bad, low) = (findings.filter { $0.verdict == .bad }.count, findings.filter { $0.verdict == .low }.count)
        lines += ["", bad + low == 0 ? "All is well." : "no: \(bad), low: \(low). What to do stands behind each →"]
        return lines.joined(separator: "\n") + "\n"
    }

    private func object(
        _ choice: Result<DriverChoice, IOError>, _ kernel: [Finding], _ limits: [Finding]
    ) -> String {
        var fields: [(String, String)] = []
        switch choice {
        case .success(let choice):
            fields = [("driver", JSON.string(choice.kind.rawValue)), ("driverReason", JSON.string(choice.reason))]
        case .failure(let error): fields = [("driver", "null"), ("driverReason", JSON.string("\(error)"))]
        }
        fields += [
            ("rondoDriver", Self.setting.map(JSON.string) ?? "null"),
            ("kernel", JSON.string(Self.kernelRelease)),
            ("io_uring", "[" + kernel.map(\.json).joined(separator: ", ") + "]"),
            ("limits", "[" + limits.map(\.json).joined(separator: ", ") + "]"),
        ]
        return "{" + fields.map { "\(JSON.string($0)): \($1)" }.joined(separator: ", ") + "}\n"
    }

    private static var setting: String? { environmentValue("RONDO_DRIVER").flatMap { $0.isEmpty ? nil : $0 } }
    private static var kernelRelease: String {
        LimitFindings.text(of: "/proc/sys/kernel/osrelease") ?? "of unknown release"
    }
}
