extension ChildProcess {
    /// What a program has done.
    public struct Output: Sendable {
        /// How it has ended.
        public var status: ExitStatus
        /// What it wrote to standard output, if that was collected.
        public var output: [UInt8]
        /// What it wrote to standard error, if that was collected.
        public var errors: [UInt8]

        /// `output` as text.
        public var text: String { String(decoding: output, as: UTF8.self) }
    }

    private enum Part {
        case output([UInt8]), errors([UInt8]), status(ExitStatus), fed
    }

    /// Runs a program to its end and collects what it writes.
    ///
    /// If the task is cancelled, or more arrives than `outputLimit`, the child is asked to end (SIGTERM), and ended
    /// (SIGKILL) if it has not done so within `gracePeriod`; this throws when it is gone. A child never outlives this
    /// call.
    ///
    /// - Parameters:
    ///   - command: what to run; streams that it does not name are collected, and standard input is `/dev/null`.
    ///   - input: what to write to standard input. A child that does not read it is no error.
    ///   - outputLimit: the most bytes to accept from each of the two streams.
    ///   - gracePeriod: how long a child that is to end may take.
    public static func run(
        _ command: Command, input: [UInt8]? = nil, outputLimit: Int = 16 << 20, gracePeriod: Duration = .seconds(5)
    ) async throws(IOError) -> Output {
        var command = command
        command.input = input == nil ? command.input ?? .null : .pipe
        command.output = command.output ?? .pipe
        command.errors = command.errors ?? .pipe
        let child = try await start(command)
        do throws(IOError) {
            let output = try await child.collect(input: input, limit: outputLimit)
            await child.closePipes()
            return output
        } catch {
            _ = try? await child.terminate(within: gracePeriod)
            await child.closePipes()
            throw error
        }
    }

    private func closePipes() async {
        await input?.close()
        await output?.close()
        await errors?.close()
    }

    /// Does all at once what must be done at once: a child that writes while nobody reads would stop.
    private func collect(input bytes: [UInt8]?, limit: Int) async throws(IOError) -> Output {
        let preference = loop.preferenceForChildren
        do {
            return try await withThrowingTaskGroup(of: Part.self) { group in
                group.addTask(executorPreference: preference) {
                    .output(try await self.output?.readToEnd(limit: limit) ?? [])
                }
                group.addTask(executorPreference: preference) {
                    .errors(try await self.errors?.readToEnd(limit: limit) ?? [])
                }
                group.addTask(executorPreference: preference) {
                    try await self.feed(bytes)
                    return .fed
                }
                group.addTask(executorPreference: preference) { .status(try await self.waitUntilExit()) }
                var result = Output(status: .exited(0), output: [], errors: [])
                for try await part in group {
                    switch part {
                    case .output(let bytes): result.output = bytes
                    case .errors(let bytes): result.errors = bytes
                    case .status(let status): result.status = status
                    case .fed: break
                    }
                }
                return result
            }
        } catch let error as IOError {
            throw error
        } catch {
            throw IOError("run", state.name, .cancelled)
        }
    }

    private func feed(_ bytes: [UInt8]?) async throws(IOError) {
        guard let input else { return }
        do throws(IOError) {
            if let bytes { try await input.write(bytes) }
        } catch {
            if error.errno != .brokenPipe { throw error }
        }
        await input.close()
    }
}
