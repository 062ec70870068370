// What the kernel would answer to operations on files. Each takes its time and then happens as a whole: cancelled
// before, it has no effect.

import CRondo
import CRondoTesting
import Glibc
import Rondo

extension SimulatedFiles {
    /// How long an operation takes.
    func latency() -> UInt64 { numbers.nanoseconds(in: world.options.fileLatency) }

    func begin(_ operation: SimulatedOperation) {
        operation.step = world.after(latency()) { [unowned self] in
            world.complete(operation, perform(operation))
        }
    }

    private func perform(_ operation: SimulatedOperation) -> Int32 {
        // SAFETY: paths, bytes and listings live until the completion, which follows.
        switch unsafe operation.request {
        case .open(let path, let flags, let mode):
            return open(unsafe String(cString: path), flags, mode)
        case .read(let descriptor, let bytes, let count, let offset):
            let space = unsafe UnsafeMutableRawBufferPointer(start: bytes, count: count)
            return withFile(descriptor) { file in unsafe read(file, space, offset) }
        case .write(let descriptor, let bytes, let count, let offset):
            let source = unsafe UnsafeRawBufferPointer(start: bytes, count: count)
            return withFile(descriptor) { file in unsafe write(file, source, offset) }
        case .synchronize(let descriptor, _):
            return withFile(descriptor, others: -EINVAL) { _ in 0 }
        case .status(let descriptor, let path, let status):
            return unsafe self.status(descriptor, path.map { unsafe String(cString: $0) }, &status.pointee)
        case .list(let path, let listing):
            let path = unsafe String(cString: path)
            return unsafe listing._withUnsafeGuaranteedRef { list(path, into: $0) }
        default: crash("\(operation.kind) is no operation on files")
        }
    }

    private func withFile(
        _ descriptor: Descriptor, others: Int32 = -ESPIPE, _ body: (SimulatedOpenFile) -> Int32
    ) -> Int32 {
        guard let object = world.descriptors[descriptor] else { return -EBADF }
        guard let file = object as? SimulatedOpenFile else { return others }
        return body(file)
    }

    // MARK: Opening

    private func open(_ path: String, _ flags: Int32, _ mode: UInt32) -> Int32 {
        let node: SimulatedNode
        switch findToOpen(path, flags, mode) {
        case .success(let found): node = found
        case .failure(let error): return -error.code
        }
        let writes = flags & O_ACCMODE != O_RDONLY
        if node.isFolder, writes || flags & O_CREAT != 0 { return -EISDIR }
        if !node.isFolder, flags & O_DIRECTORY != 0 { return -ENOTDIR }
        let file = SimulatedOpenFile(files: self, node: node, path: path, flags: flags)
        guard let descriptor = world.descriptors.open(file) else {
            file.close()
            return -EMFILE
        }
        if writes, flags & O_TRUNC != 0, !node.bytes.isEmpty {
            usedBytes -= node.bytes.count
            node.bytes = []
            node.modified = world.now
        }
        return descriptor.rawValue
    }

    private func findToOpen(_ path: String, _ flags: Int32, _ mode: UInt32) -> Result<SimulatedNode, SimulatedErrno> {
        let found = find(path)
        guard flags & O_CREAT != 0 else { return found }
        switch found {
        case .success: return flags & O_EXCL != 0 ? .failure(.init(EEXIST)) : found
        case .failure(let error) where error.code == ENOENT && !path.isEmpty: break
        case .failure: return found
        }
        if path.hasSuffix("/") { return .failure(.init(EISDIR)) }
        guard case .success(let folder) = findParent(of: path), let name = Self.names(in: path).last else {
            return found
        }
        // As with the usual umask.
        return .success(add(name, to: folder, isFolder: false, mode: mode & ~0o022))
    }

    // MARK: Reading and writing

    /// Where a read or write begins; nil if no file can have such an offset.
    private func start(_ file: SimulatedOpenFile, _ offset: UInt64) -> Int? {
        offset == .max ? file.position : Int(exactly: offset)
    }

    /// How many of `count` bytes are done at once.
    private func part(of count: Int) -> Int {
        guard count > 1, numbers.chance(oneIn: world.options.partialFileOdds) else { return count }
        return numbers.number(in: 1...count)
    }

    private func read(_ file: SimulatedOpenFile, _ space: UnsafeMutableRawBufferPointer, _ offset: UInt64) -> Int32 {
        guard file.canRead else { return -EBADF }
        if file.node.isFolder { return -EISDIR }
        guard let start = start(file, offset) else { return -EINVAL }
        let count = part(of: max(0, min(space.count, file.node.bytes.count - start)))
        // SAFETY: within the file's bytes, and no more than there is space.
        unsafe file.node.bytes.withUnsafeBytes { bytes in
            if count > 0 {
                unsafe space.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + count]))
            }
        }
        if offset == .max { file.position += count }
        return Int32(clamping: count)
    }

    private func write(_ file: SimulatedOpenFile, _ source: UnsafeRawBufferPointer, _ offset: UInt64) -> Int32 {
        guard file.canWrite else { return -EBADF }
        let node = file.node
        guard let wanted = start(file, offset) else { return -EINVAL }
        let start = file.appends ? node.bytes.count : wanted
        if unsafe source.isEmpty { return 0 }
        let room = world.options.fileCapacity - usedBytes + node.bytes.count - start
        if room <= 0 { return -ENOSPC }
        let count = part(of: min(source.count, room))
        let end = start + count
        if end > node.bytes.count {
            usedBytes += end - node.bytes.count
            node.bytes.append(contentsOf: repeatElement(0, count: end - node.bytes.count))
        }
        // SAFETY: the file has grown to hold the range.
        unsafe node.bytes.withUnsafeMutableBytes { bytes in
            let place = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[start..<end])
            unsafe place.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<count]))
        }
        node.modified = world.now
        if offset == .max || file.appends { file.position = end }
        return Int32(clamping: count)
    }

    // MARK: Status and listing

    private func status(_ descriptor: Descriptor?, _ path: String?, _ raw: inout rondo_statx) -> Int32 {
        var status = rondo_file_status()
        status.device = 1
        status.modified_seconds = RONDO_VIRTUAL_EPOCH_SECONDS
        guard let path else {
            guard let object = descriptor.flatMap({ world.descriptors[$0] }) else { return -EBADF }
            if let file = object as? SimulatedOpenFile {
                describe(file.node, &status)
            } else {
                status.mode = S_IFSOCK | 0o777
                status.links = 1
            }
            unsafe rondo_statx_encode(&status, &raw)
            return 0
        }
        switch find(from(descriptor, path)) {
        case .failure(let error): return -error.code
        case .success(let node): describe(node, &status)
        }
        unsafe rondo_statx_encode(&status, &raw)
        return 0
    }

    /// A path as seen from an open folder.
    private func from(_ descriptor: Descriptor?, _ path: String) -> String {
        guard !path.hasPrefix("/"), let folder = descriptor.flatMap({ world.descriptors[$0] }) as? SimulatedOpenFile
        else { return path }
        return folder.path + "/" + path
    }

    private func describe(_ node: SimulatedNode, _ status: inout rondo_file_status) {
        status.size = UInt64(node.bytes.count)
        status.inode = node.inode
        status.mode = node.mode | (node.isFolder ? S_IFDIR : S_IFREG)
        status.links = node.links
        status.modified_seconds += Int64(node.modified / 1_000_000_000)
        status.modified_nanoseconds = UInt32(node.modified % 1_000_000_000)
    }

    private func list(_ path: String, into listing: DirectoryListing) -> Int32 {
        let folder: SimulatedNode
        switch find(path) {
        case .failure(let error): return -error.code
        case .success(let node): folder = node
        }
        guard folder.isFolder else { return -ENOTDIR }
        var names = folder.children.keys.sorted()
        // Real listings come in no order that a program could rely on.
        for index in names.indices.reversed() { names.swapAt(index, numbers.number(in: 0...index)) }
        listing.entries += names.map { name in
            (name, UInt8(folder.children[name]!.isFolder ? Int(DT_DIR) : Int(DT_REG)))
        }
        return 0
    }
}
