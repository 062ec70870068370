extension BufferedReader {
    /// The lines from here to the end of the stream: `for try await line in reader.lines()`.
    ///
    /// - Parameters: as for ``readLine(limit:lastLineMayBeOpen:)``.
    public func lines(limit: Int = 64 * 1024, lastLineMayBeOpen: Bool = false) -> Lines {
        Lines(reader: self, limit: limit, lastLineMayBeOpen: lastLineMayBeOpen)
    }

    /// The lines of a stream, as they come.
    public struct Lines: AsyncSequence, AsyncIteratorProtocol {
        /// A line, without what ends it.
        public typealias Element = String
        /// What reading throws.
        public typealias Failure = IOError

        let reader: BufferedReader
        let limit: Int
        let lastLineMayBeOpen: Bool

        /// The lines themselves: who iterates twice goes on where the first time ended.
        public func makeAsyncIterator() -> Lines { self }

        /// The next line; nil at the end of the stream.
        public mutating func next() async throws(IOError) -> String? {
            try await reader.readLine(limit: limit, lastLineMayBeOpen: lastLineMayBeOpen)
        }

        /// The next line; nil at the end of the stream.
        public mutating func next(isolation actor: isolated (any Actor)?) async throws(IOError) -> String? {
            try await reader.readLine(limit: limit, lastLineMayBeOpen: lastLineMayBeOpen)
        }
    }
}
