// What the kernel would answer to operations on names, sizes and locks of files.

import CRondo
import Glibc
import Rondo

extension SimulatedFiles {
    /// - Returns: nil if it waits for a lock.
    func perform(_ call: FileOperation, _ operation: SimulatedOperation) -> Int32? {
        // SAFETY: what the operation points to lives until the completion, which follows.
        switch unsafe call {
        case .open(let folder, let path, let flags, let mode):
            return within(folder) { unsafe open(String(cString: path), from: $0, flags, mode) }
        case .openBeneath(let folder, let path):
            return unsafe openBeneath(String(cString: folder), String(cString: path))
        case .linkStatus(let folder, let path, let status):
            return within(folder) { unsafe linkStatus(String(cString: path), from: $0, &status.pointee) }
        case .truncate(let file, let size): return withFile(file, others: -EINVAL) { truncate($0, size) }
        case .allocate(let file, let offset, let count): return withFile(file) { allocate($0, offset, count) }
        case .readParts(let file, let parts, let count, let offset):
            let parts = unsafe UnsafeBufferPointer(start: parts, count: count)
            return withFile(file) { file in unsafe readParts(file, parts, offset) }
        case .writeParts(let file, let parts, let count, let offset):
            let parts = unsafe UnsafeBufferPointer(start: parts, count: count)
            return withFile(file) { file in unsafe writeParts(file, parts, offset) }
        case .rename(let folder, let path, let newFolder, let newPath, let flags):
            return within(folder) { from in
                within(newFolder) { to in
                    unsafe rename(String(cString: path), from, String(cString: newPath), to, flags)
                }
            }
        case .remove(let folder, let path, let flags):
            return within(folder) { unsafe remove(String(cString: path), from: $0, flags) }
        case .makeFolder(let folder, let path, let mode):
            return within(folder) { base in
                unsafe make(String(cString: path), from: base) { makeNode(isFolder: true, mode: mode & ~0o022) }
            }
        case .link(let folder, let path, let newFolder, let newPath):
            return within(folder) { from in
                within(newFolder) { to in unsafe link(String(cString: path), from, String(cString: newPath), to) }
            }
        case .symbolicLink(let text, let folder, let path):
            return within(folder) { base in
                unsafe make(String(cString: path), from: base) {
                    let node = makeNode(isFolder: false, mode: 0o777)
                    node.target = unsafe String(cString: text)
                    return node
                }
            }
        case .readLink(let folder, let path, let memory, let count):
            let space = unsafe UnsafeMutableRawBufferPointer(start: memory, count: count)
            return within(folder) { unsafe readLink(String(cString: path), from: $0, space) }
        case .setMode(let file, let mode):
            return withFile(file) { file in
                file.node.mode = mode & 0o7777
                return 0
            }
        case .setTimes(let file, let times):
            let times = unsafe times.pointee
            return withFile(file) { file in
                file.node.setTime = (times.modifiedSeconds, UInt32(times.modifiedNanoseconds))
                return 0
            }
        case .listNext(let folder, let part):
            return unsafe part._withUnsafeGuaranteedRef { part in withFile(folder) { listNext($0, into: part) } }
        case .openWatch, .addWatch, .removeWatch, .send: return -EOPNOTSUPP
        case .lock(let file, let flags): return lock(file, flags, operation)
        }
    }

    private func within(_ descriptor: Descriptor, _ body: (SimulatedNode?) -> Int32) -> Int32 {
        switch folder(descriptor) {
        case .failure(let error): -error.code
        case .success(let base): body(base)
        }
    }

    private func openBeneath(_ folder: String, _ path: String) -> Int32 {
        switch find(folder) {
        case .failure(let error): -error.code
        case .success(let node):
            node.isFolder ? open(path, from: node, O_RDONLY, 0, staysBelow: true) : -ENOTDIR
        }
    }

    // MARK: Names

    private func linkStatus(_ path: String, from base: SimulatedNode?, _ raw: inout rondo_statx) -> Int32 {
        switch find(path, from: base, followsLast: false) {
        case .failure(let error): return -error.code
        case .success(let node):
            var status = rondo_file_status()
            describe(node, &status)
            // SAFETY: both live across the call.
            unsafe rondo_statx_encode(&status, &raw)
            return 0
        }
    }

    /// Puts a new node where nothing is.
    private func make(_ path: String, from base: SimulatedNode?, _ node: () -> SimulatedNode) -> Int32 {
        switch resolve(path, from: base, followsLast: false) {
        case .failure(let error): return -error.code
        case .success(let place):
            guard let name = place.name, place.node == nil else { return -EEXIST }
            put(node(), at: name, in: place.folder)
            return 0
        }
    }

    private func remove(_ path: String, from base: SimulatedNode?, _ flags: Int32) -> Int32 {
        switch resolve(path, from: base, followsLast: false) {
        case .failure(let error): return -error.code
        case .success(let place):
            guard let node = place.node else { return -ENOENT }
            if flags & RONDO_AT_REMOVEDIR != 0 {
                guard node.isFolder else { return -ENOTDIR }
                guard place.name != nil else { return -EBUSY }
                guard node.children.isEmpty else { return -ENOTEMPTY }
            } else if node.isFolder {
                return -EISDIR
            }
            removeName(at: place)
            return 0
        }
    }

    private func link(_ path: String, _ from: SimulatedNode?, _ newPath: String, _ to: SimulatedNode?) -> Int32 {
        switch find(path, from: from, followsLast: false) {
        case .failure(let error): return -error.code
        case .success(let node):
            if node.isFolder { return -EPERM }
            return make(newPath, from: to) { node }
        }
    }

    private func readLink(
        _ path: String, from base: SimulatedNode?, _ space: UnsafeMutableRawBufferPointer
    ) -> Int32 {
        switch find(path, from: base, followsLast: false) {
        case .failure(let error): return -error.code
        case .success(let node):
            guard let target = node.target else { return -EINVAL }
            let bytes = target.utf8.prefix(space.count)
            // SAFETY: no more than there is space.
            unsafe space.copyBytes(from: bytes)
            return Int32(bytes.count)
        }
    }

    private func rename(
        _ path: String, _ from: SimulatedNode?, _ newPath: String, _ to: SimulatedNode?, _ flags: UInt32
    ) -> Int32 {
        let old: SimulatedPlace
        let new: SimulatedPlace
        do {
            old = try resolve(path, from: from, followsLast: false).get()
            new = try resolve(newPath, from: to, followsLast: false).get()
        } catch {
            return -error.code
        }
        guard let node = old.node else { return -ENOENT }
        guard let oldName = old.name, let newName = new.name else { return -EBUSY }
        if node.isFolder, isWithin(new.folder, node) { return -EINVAL }
        if let other = new.node {
            if flags & RONDO_RENAME_NOREPLACE != 0 { return -EEXIST }
            if other === node { return 0 }
            if flags & RONDO_RENAME_EXCHANGE != 0 {
                if other.isFolder, isWithin(old.folder, other) { return -EINVAL }
                move(other, from: new.folder, newName, to: old.folder, oldName)
                return move(node, from: nil, oldName, to: new.folder, newName)
            }
            if node.isFolder, !other.isFolder { return -ENOTDIR }
            if !node.isFolder, other.isFolder { return -EISDIR }
            if !other.children.isEmpty { return -ENOTEMPTY }
            removeName(at: new)
        } else if flags & RONDO_RENAME_EXCHANGE != 0 {
            return -ENOENT
        }
        return move(node, from: old.folder, oldName, to: new.folder, newName)
    }

    @discardableResult
    private func move(
        _ node: SimulatedNode, from folder: SimulatedNode?, _ name: String, to newFolder: SimulatedNode,
        _ newName: String
    ) -> Int32 {
        folder?.children[name] = nil
        folder?.modified = world.now
        node.links -= 1
        put(node, at: newName, in: newFolder)
        return 0
    }

    /// Whether a folder is `other`, or somewhere below it.
    private func isWithin(_ folder: SimulatedNode, _ other: SimulatedNode) -> Bool {
        var next: SimulatedNode? = folder
        while let node = next {
            if node === other { return true }
            next = node.parent
        }
        return false
    }

    private func listNext(_ file: SimulatedOpenFile, into part: FolderPart) -> Int32 {
        guard file.node.isFolder else { return -ENOTDIR }
        var rest = file.unlisted ?? entries(of: file.node)
        let count = min(rest.count, numbers.number(in: 1...8))
        part.entries += rest.suffix(count).map { (Array($0.name.utf8CString), $0.type) }
        rest.removeLast(count)
        file.unlisted = rest
        return Int32(count)
    }

    // MARK: Sizes and bytes

    private func truncate(_ file: SimulatedOpenFile, _ size: UInt64) -> Int32 {
        guard file.canWrite, let size = Int(exactly: size) else { return -EINVAL }
        let node = file.node
        let change = size - node.bytes.count
        if change > world.options.fileCapacity - usedBytes { return -ENOSPC }
        usedBytes += change
        if change < 0 { node.bytes.removeLast(-change) } else { node.bytes += repeatElement(0, count: change) }
        node.modified = world.now
        return 0
    }

    private func allocate(_ file: SimulatedOpenFile, _ offset: UInt64, _ count: UInt64) -> Int32 {
        guard file.canWrite else { return -EBADF }
        let (end, overflow) = offset.addingReportingOverflow(count)
        if count == 0 || overflow { return -EINVAL }
        return end > file.node.bytes.count ? truncate(file, end) : 0
    }

    private func readParts(
        _ file: SimulatedOpenFile, _ parts: UnsafeBufferPointer<rondo_memory>, _ offset: UInt64
    ) -> Int32 {
        var total: Int32 = 0
        for index in parts.indices {
            let part = unsafe parts[index]
            // SAFETY: who asked keeps the memory until the completion; so below.
            let space = unsafe UnsafeMutableRawBufferPointer(start: part.start, count: part.count)
            let answer = unsafe read(file, space, offset == .max ? .max : offset + UInt64(total))
            if answer < 0 { return total > 0 ? total : answer }
            total += answer
            if unsafe answer < part.count { break }
        }
        return total
    }

    private func writeParts(
        _ file: SimulatedOpenFile, _ parts: UnsafeBufferPointer<rondo_memory>, _ offset: UInt64
    ) -> Int32 {
        var total: Int32 = 0
        for index in parts.indices {
            let part = unsafe parts[index]
            // SAFETY: as in readParts.
            let source = unsafe UnsafeRawBufferPointer(start: part.start, count: part.count)
            let answer = unsafe write(file, source, offset == .max ? .max : offset + UInt64(total))
            if answer < 0 { return total > 0 ? total : answer }
            total += answer
            if unsafe answer < part.count { break }
        }
        return total
    }

    private func lock(_ descriptor: Descriptor, _ flags: Int32, _ operation: SimulatedOperation) -> Int32? {
        guard let file = world.descriptors[descriptor] as? SimulatedOpenFile else { return -EBADF }
        if flags & LOCK_UN != 0 {
            file.node.locks.release(file, world: world)
            return 0
        }
        let request = SimulatedLocks.Request(file: file, isExclusive: flags & LOCK_EX != 0, operation: operation)
        return file.node.locks.take(request, waits: flags & LOCK_NB == 0, world: world)
    }
}

/// The locks of one file, as `flock` has them: an open file holds one at most.
final class SimulatedLocks {
    struct Request {
        let file: SimulatedOpenFile
        let isExclusive: Bool
        let operation: SimulatedOperation
    }
    /// Who holds the lock. Several, if they share it.
    private var holders: [Request] = []
    /// Who waits for it, the oldest first.
    private var waiting: [Request] = []

    /// - Returns: nil if the request waits.
    func take(_ request: Request, waits: Bool, world: SimulatedWorld) -> Int32? {
        // What an open file had is given up first, and that is no single step: so does the kernel.
        holders.removeAll { $0.file === request.file }
        if isFree(for: request) {
            holders.append(request)
            serve(world)
            return 0
        }
        serve(world)
        guard waits else { return -EWOULDBLOCK }
        waiting.append(request)
        let operation = request.operation
        operation.leaveQueue = { [unowned self, unowned operation] in
            waiting.removeAll { $0.operation === operation }
        }
        return nil
    }

    func release(_ file: SimulatedOpenFile, world: SimulatedWorld) {
        holders.removeAll { $0.file === file }
        serve(world)
    }

    private func isFree(for request: Request) -> Bool {
        holders.isEmpty || (!request.isExclusive && holders.allSatisfy { !$0.isExclusive })
    }

    private func serve(_ world: SimulatedWorld) {
        while let first = waiting.first, isFree(for: first) {
            waiting.removeFirst()
            holders.append(first)
            world.complete(first.operation, 0)
        }
    }
}
