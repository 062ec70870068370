import Glibc
import Testing

@testable import Rondo

@Suite struct PendingOperationsTests {
    private final class Sink: CompletionSink, @unchecked Sendable {
        // SAFETY: as CompletionSink.
        var results: [Int32] = []
        override func deliver(_ completion: Completion) { results.append(completion.result) }
    }

    @Test func aSlotIsUsedAgainUnderAnotherName() {
        let table = PendingOperations()
        let first = table.reserve(.receive)
        let sink = Sink()
        table.attach(first, sink: sink)
        table.finish(Completion(operation: first, result: 5, more: true))
        #expect(table.count == 1)
        table.finish(Completion(operation: first, result: 0))
        #expect(table.count == 0 && sink.results == [5, 0])
        let second = table.reserve(.receive)
        #expect(second.slot == first.slot && second.generation != first.generation)
        guard case .none = table.cancel(first) else { crash("an old name cancels") }
        table.attach(second, sink: sink)
        guard case .askDriver = table.cancel(second) else { crash("not cancelled") }
        guard case .none = table.cancel(second) else { crash("cancelled twice") }
        table.finish(Completion(operation: second, result: -ECANCELED))
    }

    @Test func aCloseIsNotCancelled() {
        let table = PendingOperations()
        let id = table.reserve(.close)
        table.attach(id, sink: Sink())
        guard case .none = table.cancel(id) else { crash("a close was cancelled") }
        table.finish(Completion(operation: id, result: 0))
    }

    @Test func theTableGrows() {
        let table = PendingOperations()
        let sink = Sink()
        let ids = (0..<2000).map { _ in
            let id = table.reserve(.accept)
            table.attach(id, sink: sink)
            return id
        }
        #expect(Set(ids).count == 2000 && table.count == 2000)
        #expect(table.unfinished.count == 2000)
        #expect(table.countByKind() == [.accept: 2000])
        for (number, id) in ids.enumerated() { table.finish(Completion(operation: id, result: Int32(number))) }
        #expect(sink.results == (0..<2000).map { Int32($0) })
        #expect(table.count == 0 && table.unfinished.isEmpty && table.begun == 2000)
    }
}
