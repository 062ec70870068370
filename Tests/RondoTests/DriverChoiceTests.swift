// Which driver a loop gets, and that it says why: where io_uring is denied the program runs all the same.

import CTestSupport
import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct DriverChoiceTests {
        @Test(arguments: World.real) func theDriverIsChosenAndSaysWhy(world: World) throws {
            try world.run {
                #expect(loop.driverName == world.driver?.rawValue)
                #expect(loop.driverReason.hasPrefix("configured says \(loop.driverName)"))
            }
        }

        @Test func aDriverThatDoesNotExistSaysSo() async {
            await #expect(processExitsWith: .success) {
                setVariable("RONDO_DRIVER", "kqueue")
                let error = #expect(throws: IOError.self) { try EventLoop.run {} }
                let text = "choose driver RONDO_DRIVER=kqueue: no such driver: use io_uring, epoll or auto"
                #expect(error?.description == text)
            }
        }

        @Test(arguments: Machine.uringFeatures == nil ? ["auto", ""] : ["uring", "io_uring", "auto", ""])
        func theEnvironmentChooses(value: String) async {
            await #expect(processExitsWith: .success) { [value = value as String] in
                setVariable("RONDO_DRIVER", value)
                let reason = try EventLoop.run { EventLoop.current!.driverReason }
                let isForced = value.hasSuffix("uring")
                #expect(reason.contains("RONDO_DRIVER says io_uring") == isForced)
            }
        }

        // MARK: Without io_uring

        /// As in a container whose seccomp profile denies io_uring: EPERM (Docker, containerd), ENOSYS (some others).
        @Test(arguments: [EPERM, ENOSYS]) func aProgramRunsWhereUringIsDenied(error: Int32) async {
            await #expect(processExitsWith: .success) { [error = error as Int32] in
                setVariable("RONDO_DRIVER", "")
                #expect(test_deny_io_uring(error) == 0)
                let log = Journal<String>()
                var configuration = LoopConfiguration()
                configuration.logger = .recording(in: log)
                try EventLoop.run(configuration: configuration) {
                    #expect(loop.driverName == "epoll")
                    let start = "io_uring is not usable: io_uring_setup: "
                    #expect(loop.driverReason.hasPrefix(start))
                    #expect(loop.driverReason.contains("seccomp"))
                    let pair = try await connectedPair()
                    try await pair.client.write("hello")
                    let answer = try await pair.server.readExactly(5)
                    #expect(answer == Array("hello".utf8))
                    await pair.close()
                    try await Task.sleep(for: .microseconds(1))
                }
                let lines = log.all.filter { $0.contains("epoll") }
                #expect(lines.count == 1)
                #expect(lines.first?.hasPrefix("debug: event loop on epoll: io_uring is not usable: ") == true)
            }
        }

        @Test func whoAsksForUringWhereItIsDeniedIsTold() async {
            await #expect(processExitsWith: .success) {
                #expect(test_deny_io_uring(EPERM) == 0)
                var configuration = LoopConfiguration()
                configuration.driver = .uring
                let error = #expect(throws: IOError.self) { try EventLoop.run(configuration: configuration) {} }
                let start = "start driver io_uring (asked for by configured): io_uring is not usable: io_uring_setup: "
                #expect(error?.description.hasPrefix(start) == true, "\(error?.description ?? "")")
            }
        }

        /// Rings count as locked memory of the user, of which many systems allow 64 KiB: enough for the trial, not for
        /// a loop.
        @Test(.enabled(if: Machine.uringFeatures != nil), arguments: [false, true])
        func aProgramRunsWhereRingsAreTooLarge(isForced: Bool) async {
            await #expect(processExitsWith: .success) { [isForced = isForced as Bool] in
                setVariable("RONDO_DRIVER", "")
                var limit = rlimit(rlim_cur: 64 << 10, rlim_max: 64 << 10)
                // SAFETY: the limit lives across the call.
                unsafe setrlimit(__rlimit_resource_t(8), &limit)  // RLIMIT_MEMLOCK
                if getuid() == 0 { setuid(4712) }  // root has no such limit
                var configuration = LoopConfiguration()
                if isForced { configuration.driver = .uring }
                let cause = "io_uring is not usable: a ring for the loop: Cannot allocate memory"
                do {
                    try EventLoop.run(configuration: configuration) {
                        #expect(!isForced)
                        #expect(loop.driverName == "epoll")
                        #expect(loop.driverReason == "\(cause) (raise the limit of locked memory: ulimit -l)")
                        let pair = try await connectedPair()
                        await pair.close()
                    }
                } catch {
                    #expect(isForced)
                    #expect("\(error)".hasPrefix("start driver io_uring: \(cause)"))
                }
            }
        }

        /// The setting is the whole machine's: only where somebody says that this may be.
        @Test(.enabled(if: environmentValue("RONDO_TEST_SYSCTL") != nil)) func aProgramRunsWhereUringIsSwitchedOff()
            async
        {
            let path = "/proc/sys/kernel/io_uring_disabled"
            let before = contents(ofFile: path) ?? []
            write([UInt8(ascii: "2")], toFile: path)
            defer { write(before, toFile: path) }
            await #expect(processExitsWith: .success) {
                setVariable("RONDO_DRIVER", "")
                let reason = try EventLoop.run { loop.driverName + ": " + loop.driverReason }
                #expect(reason.hasPrefix("epoll: io_uring is not usable: io_uring_setup: "))
                #expect(reason.contains("kernel.io_uring_disabled is 2"))
            }
        }
    }
}

private func setVariable(_ name: String, _ value: String) { unsafe setenv(name, value, 1) }

private func write(_ bytes: [UInt8], toFile path: String) {
    let descriptor = unsafe open(path, O_WRONLY)
    let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
    #expect(written == bytes.count)
    close(descriptor)
}
