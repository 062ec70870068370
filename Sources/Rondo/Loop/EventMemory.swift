// The memory of event rings: a header, and a section for each loop. It is a file's, so that it outlives the process, or
// nobody's.

import CRondo
import Glibc
package import SystemPackage

/// Memory for the event rings of some loops. Its size never changes.
@safe
package final class EventMemory: @unchecked Sendable {
    // SAFETY: the mapping lives as long as this; each section belongs to the thread of its loop, the header to whoever
    // makes the memory.

    private let base: UnsafeMutableRawPointer
    private let size: Int
    private let writers: UnsafeMutablePointer<rondo_ring>
    private let layout: EventMemoryLayout

    /// Memory of the process alone.
    ///
    /// - Parameter eventCapacity: how many events each ring keeps.
    /// - Throws: the system's reason; `ENOTSUP` if the tasks of this Swift runtime are laid out in an unknown way.
    package convenience init(eventCapacity: Int) throws(Errno) {
        try self.init(EventMemoryLayout(loops: 1, eventCapacity: eventCapacity), file: nil)
    }

    /// - Parameter file: a file of the layout's size, all of whose blocks are there; the caller closes it.
    init(_ layout: EventMemoryLayout, file: Int32?) throws(Errno) {
        if rondo_knows_task_layout() == 0 { throw .notSupported }
        let kind = file == nil ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED
        let mapped = unsafe mmap(nil, layout.size, PROT_READ | PROT_WRITE, kind, file ?? -1, 0)
        guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else { throw Errno(rawValue: errno) }
        unsafe base = mapped
        size = layout.size
        self.layout = layout
        unsafe writers = .allocate(capacity: layout.loops)
        for number in 0..<layout.loops { prepare(number) }
        writeHeader()
    }

    deinit {
        unsafe munmap(base, size)
        unsafe writers.deallocate()
    }

    private func prepare(_ number: Int) {
        // SAFETY: the layout's parts are within the mapping.
        let section = unsafe base + (Int(RONDO_TRACE_HEADER_SIZE) + number * layout.sectionSize)
        let header = unsafe section.bindMemory(to: rondo_ring_header.self, capacity: 1)
        unsafe header.pointee.event_capacity = UInt64(layout.eventCapacity)
        unsafe header.pointee.task_capacity = UInt64(layout.taskCapacity)
        unsafe header.pointee.loop = UInt32(number)
        let labels = unsafe (section + Int(RONDO_RING_HEADER_SIZE))
            .bindMemory(to: rondo_label.self, capacity: Int(RONDO_LABEL_COUNT))
        let tasks = unsafe UnsafeMutableRawPointer(labels + Int(RONDO_LABEL_COUNT))
            .bindMemory(to: rondo_task_entry.self, capacity: 2 * layout.taskCapacity)
        let events = unsafe UnsafeMutableRawPointer(tasks + 2 * layout.taskCapacity)
            .bindMemory(to: rondo_event.self, capacity: layout.eventCapacity)
        unsafe (writers + number).initialize(
            to: rondo_ring(
                next: events, first: events, end: events + layout.eventCapacity, header: header, tasks: tasks,
                labels: labels, recorded: 0, now: 0, operation: 0, value: 0, extra: 0, detail: 0, has_completion: 0,
                cause: EventKind.ready.rawValue, uses_ticks: 0))
    }

    private func writeHeader() {
        // SAFETY: the mapping begins with the header, and is longer.
        let header = unsafe base.bindMemory(to: rondo_trace_header.self, capacity: 1)
        unsafe header.pointee.version = RONDO_TRACE_VERSION
        unsafe header.pointee.process = UInt32(bitPattern: getpid())
        unsafe header.pointee.loops = UInt32(layout.loops)
        unsafe header.pointee.section_size = UInt64(layout.sectionSize)
        unsafe header.pointee.start_realtime = rondo_clock_nanoseconds(CLOCK_REALTIME)
        unsafe header.pointee.start_monotonic = monotonicNanoseconds()
        unsafe header.pointee.process_start = rondo_process_start(getpid())
        let path = CommandLine.arguments.first ?? ""
        let name = path.utf8.split(separator: UInt8(ascii: "/")).last.map { $0.prefix(255) } ?? path.utf8.prefix(255)
        unsafe withUnsafeMutableBytes(of: &header.pointee.program) { unsafe $0.copyBytes(from: name) }
        unsafe header.pointee.is_complete = 1
        unsafe header.pointee.magic = RONDO_TRACE_MAGIC
    }

    /// The ring of a loop, from now on: on the loop's thread, or before that runs.
    func ring(_ number: Int, for driver: any Driver) -> EventRing {
        require(number < layout.loops, "an event ring for loop \(number) of \(layout.loops)")
        // SAFETY: below the number of loops.
        let writer = unsafe writers + number
        let usesTicks = driver.name != "simulated"
        unsafe writer.pointee.uses_ticks = usesTicks ? 1 : 0
        unsafe writer.pointee.now = usesTicks ? rondo_ticks() : driver.now
        unsafe writer.pointee.cause = EventKind.ready.rawValue
        unsafe writer.pointee.has_completion = 0
        let header = unsafe writer.pointee.header!
        unsafe header.pointee.uses_ticks = usesTicks ? 1 : 0
        unsafe header.pointee.start_time = writer.pointee.now
        unsafe header.pointee.start_nanoseconds = driver.now
        unsafe withUnsafeMutableBytes(of: &header.pointee.driver) {
            unsafe $0.copyBytes(from: driver.name.utf8.prefix(15))
        }
        unsafe header.pointee.is_used = 1
        let ring = unsafe EventRing(writer)
        ring.turnBegins(at: driver.now)
        return ring
    }

    /// All of it as it is now: what a trace file of it would hold. Where it is written meanwhile, by its loop's thread.
    package var bytes: [UInt8] {
        // SAFETY: the whole mapping is readable.
        unsafe Array(UnsafeRawBufferPointer(start: base, count: size))
    }
}

/// How many loops, events and tasks there is room for.
package struct EventMemoryLayout: Sendable {
    package var loops: Int
    package var eventCapacity: Int
    package var taskCapacity: Int

    /// One task in each table for 32 events.
    package init(loops: Int, eventCapacity: Int) {
        self.loops = loops
        self.eventCapacity = max(1024, eventCapacity)
        taskCapacity = max(256, self.eventCapacity / 32)
    }

    /// As many events as fit into so many bytes for each loop.
    package init(loops: Int, bytesPerLoop: Int) {
        // An event, and a 32nd of two tasks.
        self.init(loops: loops, eventCapacity: (bytesPerLoop - Self.fixedBytes) / (24 + 4))
    }

    /// Of a section: the header, and the names of spans.
    package static var fixedBytes: Int { Int(RONDO_RING_HEADER_SIZE) + 64 * Int(RONDO_LABEL_COUNT) }

    package var sectionSize: Int {
        let bytes = Self.fixedBytes + 2 * 64 * taskCapacity + 24 * eventCapacity
        return (bytes + 4095) & ~4095
    }

    package var size: Int { Int(RONDO_TRACE_HEADER_SIZE) + loops * sectionSize }
}

extension EventLoop {
    /// Where the loop's events go; nil for nowhere. On the loop's thread.
    package var recording: EventMemory? {
        get { eventMemory }
        set {
            eventRing = newValue?.ring(isInGroup ? number : 0, for: driver)
            spanLabels.removeAll()
            offloadPool.isTimed = eventRing?.usesTicks ?? false
            eventMemory = newValue
        }
    }

    /// Records from now on. Returns in the next turn: the one before may have begun without an eye on it.
    package func record(into memory: EventMemory) async {
        recording = memory
        // SAFETY: an operation without pointers.
        _ = await unsafe perform(.nothing)
    }
}
