// Reads what a flight recorder has written: of a process that is dead, or lives and writes on. What a file says about
// its own sizes is believed only as far as its bytes reach.

import CRondo
package import Rondo

/// Why bytes are no trace.
package struct TraceError: Error, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
}

/// An event with its time in nanoseconds and the loop that it happened on.
package struct TraceEvent: Sendable {
    package var time: UInt64
    package var task: UInt32
    package var operation: UInt32
    package var value: Int32
    package var kind: EventKind
    package var detail: UInt8
    package var extra: UInt16
    package var loop: UInt16

    /// The 64 bits of the kinds that have them.
    package var wide: UInt64 { UInt64(operation) | UInt64(UInt32(bitPattern: value)) << 32 }
}

/// A task as a loop saw it first.
package struct TraceTask: Sendable {
    package var time: UInt64
    package var number: UInt32
    /// Who made it, or waits for it; 0 if nobody is known.
    package var parent: UInt32
    package var isChild: Bool
    package var priority: UInt8
    package var name: String
}

/// What a loop has left in its ring.
package struct TraceRing: Sendable {
    package var loop: Int
    package var driver: String
    /// When it began, in nanoseconds of the driver.
    package var start: UInt64
    /// Events since the start, those that the ring no longer has among them.
    package var recorded: Int
    package var events: [TraceEvent]
    package var tasks: [TraceTask]
    /// What its spans are called.
    package var labels: [String]

    /// Events that the ring could not keep.
    package var dropped: Int { recorded - events.count }
}

/// A whole trace.
package struct TraceFile: Sendable {
    package var process: Int32
    package var program: String
    /// When the process was started, in ticks of the system's clock.
    package var processStart: UInt64
    /// Nanoseconds since 1970 when the recorder began, and the drivers' time at that moment.
    package var startRealtime: UInt64
    package var startMonotonic: UInt64
    package var rings: [TraceRing]

    /// Whether the process is there still, and no other one that has got its number.
    package var isAlive: Bool { processStart != 0 && rondo_process_start(process) == processStart }

    package init(_ bytes: [UInt8]) throws(TraceError) {
        let parts = try TraceParts(bytes)
        self.init(parts, rings: parts.rings(in: bytes))
    }

    init(_ parts: TraceParts, rings: [RawRing]) {
        let header = parts.header
        process = Int32(truncatingIfNeeded: header.process)
        program = text(of: header.program)
        processStart = header.process_start
        startRealtime = header.start_realtime
        startMonotonic = header.start_monotonic
        self.rings = rings.filter { $0.header.is_used != 0 }.map(TraceRing.init)
    }
}

/// Where things are in a trace file.
struct TraceParts {
    let header: rondo_trace_header
    let layout: [Int]
    let sectionSize: Int

    init(_ bytes: [UInt8]) throws(TraceError) {
        let least = Int(RONDO_TRACE_HEADER_SIZE) + EventMemoryLayout.fixedBytes
        guard bytes.count >= least, let header = value(rondo_trace_header.self, at: 0, in: bytes),
            header.magic == RONDO_TRACE_MAGIC
        else { throw TraceError("this is no trace file") }
        guard header.version == RONDO_TRACE_VERSION else {
            throw TraceError("a trace file of version \(header.version); this reads version \(RONDO_TRACE_VERSION)")
        }
        let rest = bytes.count - Int(RONDO_TRACE_HEADER_SIZE)
        guard header.section_size >= UInt64(EventMemoryLayout.fixedBytes), header.section_size <= UInt64(rest),
            header.loops > 0, Int(header.loops) <= rest / Int(header.section_size)
        else { throw TraceError("the trace file is cut off: \(bytes.count) bytes") }
        self.header = header
        sectionSize = Int(header.section_size)
        layout = (0..<Int(header.loops)).map { [size = sectionSize] in Int(RONDO_TRACE_HEADER_SIZE) + $0 * size }
    }

    func rings(in bytes: [UInt8]) -> [RawRing] {
        layout.compactMap { RawRing(bytes[$0..<$0 + sectionSize]) }
    }
}

/// A section's bytes, understood.
struct RawRing {
    var header: rondo_ring_header
    /// Oldest first.
    var events: [rondo_event]
    var tasks: [rondo_task_entry]
    var labels: [rondo_label]

    init?(_ section: ArraySlice<UInt8>) {
        guard let header = value(rondo_ring_header.self, at: section.startIndex, in: section) else { return nil }
        let room = section.count - EventMemoryLayout.fixedBytes
        guard header.event_capacity > 0, header.event_capacity <= UInt64(room / MemoryLayout<rondo_event>.size),
            header.task_capacity > 0, header.task_capacity <= UInt64(room / MemoryLayout<rondo_task_entry>.size / 2)
        else { return nil }
        let (events, tasks) = (Int(header.event_capacity), Int(header.task_capacity))
        guard 2 * tasks * 64 + events * 24 <= room, header.recorded < 1 << 62 else { return nil }
        self.header = header
        labels = Self.latest(
            UInt64(min(header.labels, RONDO_LABEL_COUNT)), of: Int(RONDO_LABEL_COUNT),
            at: section.startIndex + Int(RONDO_RING_HEADER_SIZE), in: section)
        let start = section.startIndex + EventMemoryLayout.fixedBytes
        self.tasks =
            Self.latest(header.named, of: tasks, at: start, in: section)
            + Self.latest(header.unnamed, of: tasks, at: start + tasks * 64, in: section)
        self.events = Self.latest(header.recorded, of: events, at: start + 2 * tasks * 64, in: section)
        // The ring may have been written on while it was read: then what should be oldest is newer than all, and what
        // follows may be half of each.
        if let last = self.events.last?.time {
            let overwritten = self.events.prefix { $0.time > last }.count
            if overwritten > 0 { self.events.removeFirst(min(overwritten + 1, self.events.count)) }
        }
    }

    /// The last of a ring's entries, oldest first.
    private static func latest<Entry: BitwiseCopyable>(
        _ count: UInt64, of capacity: Int, at start: Int, in bytes: ArraySlice<UInt8>
    ) -> [Entry] {
        let count = Int(min(count, 1 << 62))
        let size = MemoryLayout<Entry>.stride
        return (count - min(count, capacity)..<count).compactMap {
            value(Entry.self, at: start + $0 % capacity * size, in: bytes)
        }
    }
}

extension TraceRing {
    init(_ raw: RawRing) {
        loop = Int(raw.header.loop)
        driver = text(of: raw.header.driver)
        recorded = Int(raw.header.recorded)
        start = raw.header.start_nanoseconds
        var clock = RingClock(raw)
        let number = UInt16(truncatingIfNeeded: loop)
        var latest: UInt64 = 0
        events = raw.events.compactMap { event in
            guard let kind = EventKind(rawValue: event.kind) else { return nil }
            var time = clock.nanoseconds(at: event.time)
            // A call of the pool is noted when it is over; all else in order.
            if kind != .offloadBegan, kind != .offloadEnded {
                time = max(time, latest)
                latest = time
            }
            return TraceEvent(
                time: time, task: event.task, operation: event.operation, value: event.value, kind: kind,
                detail: event.detail, extra: event.extra, loop: number)
        }
        clock = RingClock(raw)
        tasks = raw.tasks.map { entry in
            TraceTask(
                time: clock.nanoseconds(at: entry.time), number: entry.task, parent: entry.parent,
                isChild: entry.is_child != 0, priority: entry.priority,
                name: text(of: entry.name, length: Int(entry.name_length)) + (entry.is_cut != 0 ? "…" : ""))
        }
        labels = raw.labels.map { text(of: $0.name, length: Int($0.length)) + ($0.is_cut != 0 ? "…" : "") }
    }
}

/// From a ring's clock to nanoseconds: each turn has noted both, and in between they run alike.
private struct RingClock {
    private var anchors: [(ticks: UInt64, nanoseconds: UInt64)] = []
    private var nanosecondsPerTick = 1.0
    private var index = 0
    private let isPlain: Bool

    init(_ ring: RawRing) {
        isPlain = ring.header.uses_ticks == 0
        if isPlain { return }
        anchors = [(ring.header.start_time, ring.header.start_nanoseconds)]
        for event in ring.events where event.kind == EventKind.turnBegins.rawValue {
            let nanoseconds = UInt64(event.operation) | UInt64(UInt32(bitPattern: event.value)) << 32
            guard event.time > anchors.last!.ticks, nanoseconds >= anchors.last!.nanoseconds else { continue }
            anchors.append((event.time, nanoseconds))
        }
        let (first, last) = (anchors.first!, anchors.last!)
        // Until the second turn nobody knows; then a tick is taken for a third of a nanosecond.
        nanosecondsPerTick =
            last.ticks > first.ticks
            ? Double(last.nanoseconds - first.nanoseconds) / Double(last.ticks - first.ticks) : 1 / 3.0
    }

    mutating func nanoseconds(at ticks: UInt64) -> UInt64 {
        if isPlain { return ticks }
        while index + 1 < anchors.count, anchors[index + 1].ticks <= ticks { index += 1 }
        while index > 0, anchors[index].ticks > ticks { index -= 1 }
        let anchor = anchors[index]
        if ticks < anchor.ticks { return anchor.nanoseconds }
        var slope = nanosecondsPerTick
        if index + 1 < anchors.count {
            let next = anchors[index + 1]
            slope = Double(next.nanoseconds - anchor.nanoseconds) / Double(next.ticks - anchor.ticks)
        }
        let passed = Double(ticks - anchor.ticks) * slope
        return anchor.nanoseconds &+ (passed < 9e18 ? UInt64(passed) : 0)
    }
}

// MARK: Bytes

/// A plain value at a place among bytes, if it is within them.
private func value<Value: BitwiseCopyable, Bytes: Collection<UInt8>>(
    _ type: Value.Type, at index: Int, in bytes: Bytes
) -> Value? where Bytes.Index == Int {
    guard index >= bytes.startIndex, bytes.endIndex - index >= MemoryLayout<Value>.size else { return nil }
    // SAFETY: within the bytes; every pattern of bits is a value of these plain C structures.
    let loaded: Value?? = bytes.withContiguousStorageIfAvailable { storage in
        unsafe UnsafeRawBufferPointer(storage).loadUnaligned(fromByteOffset: index - bytes.startIndex, as: Value.self)
    }
    return loaded ?? nil
}

/// The text in a C array: as far as a zero, or for a length.
private func text<CharacterArray>(of array: CharacterArray, length: Int? = nil) -> String {
    // SAFETY: looks at the array's own bytes.
    unsafe withUnsafeBytes(of: array) { bytes in
        let text = unsafe bytes.prefix(length ?? bytes.firstIndex(of: 0) ?? bytes.count)
        return unsafe String(decoding: text, as: UTF8.self)
    }
}
