// Pipes, FIFOs and standard streams, with the kernel behind them.

import CRondo
import CTestSupport
import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct PipeTests {
        @Test(arguments: World.allCases) func bytesGoThrough(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                let bytes = pattern(3_000_000)
                let writing = start {
                    try await writer.write(bytes)
                    await writer.close()
                }
                var received: [UInt8] = []
                while let part = try await reader.read() {
                    #expect(!part.isEmpty)
                    received += part
                }
                #expect(received == bytes)
                #expect(try await reader.read() == nil, "the end stays the end")
                try await writing.value
                await reader.close()
                await reader.close()
            }
        }

        @Test(arguments: World.allCases) func pipesAreByteStreams(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                #expect(reader.subject == "a pipe" && writer.subject == "a pipe")
                let (source, sink) = try PipeReader.makePipe()
                let copying = start {
                    let count = try await copy(from: source, to: writer)
                    try await writer.finishWriting()
                    return count
                }
                try await sink.write(contentsOf: [Array("one\ntw".utf8), Array("o\nthree".utf8)])
                let lines = BufferedReader(reader)
                #expect(try await lines.readLine() == "one")
                #expect(try await lines.readLine() == "two")
                await sink.close()
                #expect(try await lines.readLine(lastLineMayBeOpen: true) == "three")
                #expect(try await lines.readLine() == nil)
                #expect(try await copying.value == 13)
                for end in [reader, source] { await end.close() }
            }
        }

        @Test(arguments: World.allCases) func readsTakeWhatIsThere(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                let reading = start { try await reader.read(upTo: 3) }
                await settle()
                try await writer.write("hello")
                #expect(try await reading.value == Array("hel".utf8))
                #expect(try await reader.read() == Array("lo".utf8))
                let limited = start { try await reader.readToEnd(limit: 4) }
                try await writer.write("12345")
                #expect(await ioError(of: limited)?.cause == .limitExceeded(4))
                await reader.close()
                await writer.close()
            }
        }

        @Test(arguments: World.allCases) func cancellation(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                // While it waits; the next read gets what comes.
                let reading = start { try await reader.read() }
                await settle()
                reading.cancel()
                #expect(await ioError(of: reading)?.isCancellation == true)
                try await writer.write("one")
                #expect(try await reader.read() == Array("one".utf8))
                // Before it begins: it waits for nothing.
                let early = start { try await reader.read() }
                early.cancel()
                #expect(await ioError(of: early)?.isCancellation == true)
                // With what it waits for.
                let racing = start { try await reader.read() }
                await settle()
                try await writer.write("two")
                racing.cancel()
                let first = try? await racing.value
                if first == nil { #expect(try await reader.read() == Array("two".utf8)) }
                // A writer without room.
                let writing = start { try await writer.write(pattern(1_000_000)) }
                await settle()
                writing.cancel()
                #expect(await ioError(of: writing)?.isCancellation == true)
                #expect(try await reader.read(upTo: 10) == pattern(10))
                await reader.close()
                await writer.close()
            }
        }

        @Test(arguments: World.allCases) func closingEndsWaits(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                let reading = start { try await reader.read() }
                await settle()
                #expect(await ioError { try await reader.read() }?.cause == .busy)
                await reader.close()
                #expect(await ioError(of: reading)?.cause == .closed)
                #expect(await ioError { try await reader.read() }?.cause == .closed)
                // Nobody reads any more: an error, and no signal.
                let broken = await ioError { try await writer.write("late") }
                #expect(
                    "\(broken!)"
                        == "write to the pipe a pipe: Broken pipe (whoever reads it has closed it, or has ended)")
                await writer.close()
                let (reader2, writer2) = try PipeReader.makePipe()
                let writing = start { try await writer2.write(pattern(1_000_000)) }
                await settle()
                await writer2.close()
                #expect(await ioError(of: writing)?.cause == .closed)
                #expect(try await reader2.readToEnd().count < 1_000_000)
                await reader2.close()
            }
        }

        @Test(arguments: World.allCases) func droppedPipesAreClosed(world: World) throws {
            try world.run {
                let before = KernelObjects.count()
                var ends: (reader: PipeReader, writer: PipeWriter)? = try PipeReader.makePipe()
                let reader = ends!.reader
                ends = nil
                #expect(try await reader.read() == nil, "the writer was dropped")
                await reader.close()
                await settle()
                #expect(KernelObjects.count() == before)
            }
        }

        /// A pipe's end goes to another owner, and the pipe stays open for as long as one of them has it.
        @Test(arguments: World.allCases) func endsArePassedOn(world: World) throws {
            try world.run {
                let (reader, writer) = try PipeReader.makePipe()
                let (one, other) = try UnixStream.pair()
                let number = FileDescriptor(rawValue: writer.end.descriptor.rawValue)
                try await one.write([1], passing: [number])
                try await writer.write("first ")
                await writer.close()
                let reading = start { try await reader.readToEnd() }
                let received = try await other.readMessage()?.descriptors.first
                let passed = try #require(received?.fileDescriptor)
                let second = try PipeWriter.sharing(passed, name: "passed on")
                received?.close()
                try await second.write("second")
                await settle()
                await second.close()
                #expect(try await reading.value == Array("first second".utf8))
                await reader.close()
                for stream in [one, other] { await stream.close() }
            }
        }

        // FIFOs, and descriptors of others, are the kernel's: a simulation has none.

        @Test(arguments: World.real) func aFIFOWaitsForItsWriter(world: World) throws {
            let path = FilePath("/tmp/rondo-fifo-\(getpid())-\(world)")
            #expect(unsafe mkfifo(path.string, 0o600) == 0)
            defer { unsafe unlink(path.string) }
            try world.run {
                let nobody = await ioError { try await PipeWriter.open(path) }
                #expect("\(nobody!)".hasSuffix("(nobody has it open for reading)"))
                let reader = try await PipeReader.open(path)
                let reading = start { try await reader.read() }
                await settle()
                let writer = try await PipeWriter.open(path)
                try await writer.write("through a file's name")
                #expect(try await reading.value == Array("through a file's name".utf8))
                await writer.close()
                #expect(try await reader.read() == nil)
                await reader.close()
                #expect(await ioError { try await PipeReader.open("/tmp/none/fifo") }?.errno == .noSuchFileOrDirectory)
            }
        }

        /// Whatever a descriptor stands for, it is read and written, and stays blocking for others.
        @Test(arguments: World.real) func descriptorsOfOthersStayAsTheyAre(world: World) throws {
            let folder = TemporaryFolder()
            let path = FilePath(folder.path + "/file")
            try world.run {
                var pair: (Int32, Int32) = (0, 0)
                let answer = unsafe withUnsafeMutableBytes(of: &pair) {
                    unsafe socketpair(
                        AF_UNIX, Int32(SOCK_STREAM.rawValue), 0,
                        $0.baseAddress!.assumingMemoryBound(to: Int32.self))
                }
                #expect(answer == 0)
                var pipe: (Int32, Int32) = (-1, -1)
                unsafe #expect(rondo_pipe(&pipe.0, &pipe.1) == 0)
                for (read, write) in [pair, pipe] {
                    let reader = try PipeReader.sharing(FileDescriptor(rawValue: read), name: "input")
                    let writer = try PipeWriter.sharing(FileDescriptor(rawValue: write), name: "output")
                    let reading = start { try await reader.read() }
                    await settle()
                    try await writer.write("shared")
                    #expect(try await reading.value == Array("shared".utf8))
                    #expect(fcntl(read, F_GETFL) & O_NONBLOCK == 0)
                    #expect(fcntl(write, F_GETFL) & O_NONBLOCK == 0)
                    await reader.close()
                    await writer.close()
                    #expect(fcntl(read, F_GETFD) >= 0, "it stays open")
                    Glibc.close(read)
                    Glibc.close(write)
                }
                // A file is read and written from where its owner is, which moves.
                let file = try FileDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
                let writer = try PipeWriter.sharing(file, name: "a file")
                try await writer.write("first ")
                _ = try file.writeAll(Array("second ".utf8))
                try await writer.write("third")
                await writer.close()
                _ = try file.seek(offset: 0, from: .start)
                let reader = try PipeReader.sharing(file, name: "a file")
                #expect(try await reader.readToEnd() == Array("first second third".utf8))
                await reader.close()
                try file.close()
                // /dev/null has an end and takes everything.
                let null = try FileDescriptor.open(FilePath("/dev/null"), .readWrite)
                let fromNull = try PipeReader.sharing(null, name: "null")
                #expect(try await fromNull.read() == nil)
                let toNull = try PipeWriter.sharing(null, name: "null")
                try await toNull.write(pattern(100_000))
                await fromNull.close()
                await toNull.close()
                try null.close()
            }
        }
    }
}
