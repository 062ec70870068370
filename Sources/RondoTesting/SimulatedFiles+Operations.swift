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
            if let answer = perform(operation) { world.complete(operation, answer) }
        }
    }

    /// - Returns: nil if it goes on waiting.
    private func perform(_ operation: SimulatedOperation) -> Int32? {
        // SAFETY: paths, bytes and listings live until the completion, which follows.
        switch unsafe operation.request {
        case .open(let path, let flags, let mode):
            return open(unsafe String(cString: path), from: nil, flags, mode)
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
        case .file(let call):
            return unsafe perform(call, operation)
        default: crash("\(operation.kind) is no operation on files")
        }
    }

    func withFile(
        _ descriptor: Descriptor, others: Int32 = -ESPIPE, _ body: (SimulatedOpenFile) -> Int32
    ) -> Int32 {
        guard let object = world.descriptors[descriptor] else { return -EBADF }
        guard let file = object as? SimulatedOpenFile else { return others }
        return body(file)
    }

    // MARK: Opening

    /// - Parameter staysBelow: whether nothing may lead out of `base`.
    func open(
        _ path: String, from base: SimulatedNode?, _ flags: Int32, _ mode: UInt32, staysBelow: Bool = false
    ) -> Int32 {
        let isUnnamed = flags & rondo_open_unnamed_flag() == rondo_open_unnamed_flag()
        let node: SimulatedNode
        let found =
            staysBelow
            ? find(path, from: base, staysBelow: true)
            : isUnnamed ? findFolder(path, from: base, mode) : findToOpen(path, from: base, flags, mode)
        switch found {
        case .success(let found): node = found
        case .failure(let error): return -error.code
        }
        let writes = flags & O_ACCMODE != O_RDONLY
        if node.isFolder, writes || flags & O_CREAT != 0 { return -EISDIR }
        if !node.isFolder, !isUnnamed, flags & O_DIRECTORY != 0 { return -ENOTDIR }
        if node.target != nil { return -ELOOP }
        if node.isSocket { return -ENXIO }
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

    /// An unnamed file, if the path is a folder's.
    private func findFolder(
        _ path: String, from base: SimulatedNode?, _ mode: UInt32
    ) -> Result<SimulatedNode, SimulatedErrno> {
        find(path, from: base).flatMap { folder in
            folder.isFolder ? .success(makeNode(isFolder: false, mode: mode & ~0o022)) : .failure(.init(ENOTDIR))
        }
    }

    private func findToOpen(
        _ path: String, from base: SimulatedNode?, _ flags: Int32, _ mode: UInt32
    ) -> Result<SimulatedNode, SimulatedErrno> {
        let follows = flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
        let found = find(path, from: base, followsLast: follows)
        guard flags & O_CREAT != 0 else { return found }
        switch found {
        case .success: return flags & O_EXCL != 0 ? .failure(.init(EEXIST)) : found
        case .failure(let error) where error.code == ENOENT && !path.isEmpty: break
        case .failure: return found
        }
        if path.hasSuffix("/") { return .failure(.init(EISDIR)) }
        guard case .success(let place) = resolve(path, from: base, followsLast: follows), let name = place.name else {
            return found
        }
        // As with the usual umask.
        return .success(add(name, to: place.folder, isFolder: false, mode: mode & ~0o022))
    }

    // MARK: Reading and writing

    /// Where a read or write begins; nil if no file can have such an offset.
    private func start(_ file: SimulatedOpenFile, _ offset: UInt64) -> Int? {
        offset == .max ? file.position : Int(exactly: offset)
    }

    /// How many of `count` bytes are done at once.
    func part(of count: Int) -> Int {
        guard count > 1, numbers.chance(oneIn: world.options.partialFileOdds) else { return count }
        return numbers.number(in: 1...count)
    }

    func read(_ file: SimulatedOpenFile, _ space: UnsafeMutableRawBufferPointer, _ offset: UInt64) -> Int32 {
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

    func write(_ file: SimulatedOpenFile, _ source: UnsafeRawBufferPointer, _ offset: UInt64) -> Int32 {
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
                status.mode = object is SimulatedPipeEnd ? S_IFIFO | 0o600 : S_IFSOCK | 0o777
                status.links = 1
            }
            unsafe rondo_statx_encode(&status, &raw)
            return 0
        }
        switch folder(descriptor).flatMap({ find(path, from: $0) }) {
        case .failure(let error): return -error.code
        case .success(let node): describe(node, &status)
        }
        unsafe rondo_statx_encode(&status, &raw)
        return 0
    }

    /// An open folder that a path starts from; nil stands for the working directory.
    func folder(_ descriptor: Descriptor?) -> Result<SimulatedNode?, SimulatedErrno> {
        guard let descriptor, descriptor != .workingDirectory else { return .success(nil) }
        guard let object = world.descriptors[descriptor] else { return .failure(.init(EBADF)) }
        guard let file = object as? SimulatedOpenFile, file.node.isFolder else { return .failure(.init(ENOTDIR)) }
        return .success(file.node)
    }

    func describe(_ node: SimulatedNode, _ status: inout rondo_file_status) {
        status.size = UInt64(node.target?.utf8.count ?? node.bytes.count)
        status.inode = node.inode
        status.mode = node.mode | node.type
        status.links = node.links
        status.device = 1
        status.modified_seconds = RONDO_VIRTUAL_EPOCH_SECONDS + Int64(node.modified / 1_000_000_000)
        status.modified_nanoseconds = UInt32(node.modified % 1_000_000_000)
        if let time = node.setTime {
            (status.modified_seconds, status.modified_nanoseconds) = (time.seconds, time.nanoseconds)
        }
    }

    /// What is in a folder, in an order that no program could rely on.
    func entries(of folder: SimulatedNode) -> [(name: String, type: UInt8)] {
        var names = folder.children.keys.sorted()
        for index in names.indices.reversed() { names.swapAt(index, numbers.number(in: 0...index)) }
        return names.map { ($0, UInt8(folder.children[$0]!.type >> 12)) }
    }

    private func list(_ path: String, into listing: DirectoryListing) -> Int32 {
        switch find(path) {
        case .failure(let error): return -error.code
        case .success(let folder):
            guard folder.isFolder else { return -ENOTDIR }
            listing.entries += entries(of: folder)
            return 0
        }
    }
}

extension SimulatedNode {
    /// What it is, in the words of `stat`.
    var type: UInt32 { isFolder ? S_IFDIR : target != nil ? S_IFLNK : isSocket ? S_IFSOCK : S_IFREG }
}
