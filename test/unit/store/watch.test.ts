import { describe, expect, test } from 'vitest'
import { isOpError } from '../../../src/lib/errors.ts'
import { aStore, putModel, told, Watching } from '../../support/stores.ts'
import { settle } from '../../support/virtualclock.ts'

const remove = (name: string) => ({ kind: 'Model', namespace: '', name })

describe('a watch', () => {
  test('tells what stands, then a bookmark, then each change once and in order', async () => {
    const { store } = await aStore()
    await store.transact((tx) => [putModel(tx, 'b', '1'), putModel(tx, 'a', '1')])
    const watch = new Watching(store, { from: 'initial' })
    await watch.until(3)
    await store.transact((tx) => putModel(tx, 'a', '2'))
    await store.transact((tx) => [putModel(tx, 'c', '1'), tx.remove(remove('b'))])
    expect((await watch.until(6)).map(told)).toEqual([
      'ADDED a@1',
      'ADDED b@1',
      'BOOKMARK end of initial',
      'MODIFIED a@2',
      'ADDED c@1',
      'DELETED b@1',
    ])
  })

  test('carries the state before a change, and on DELETED the revision of the deletion', async () => {
    const { store } = await aStore()
    const watch = new Watching(store, { from: 'initial' })
    await watch.until(1)
    await store.transact((tx) => putModel(tx, 'a', '1'))
    await store.transact((tx) => putModel(tx, 'a', '2'))
    await store.transact((tx) => tx.remove(remove('a')))
    const changes = (await watch.until(4)).slice(1).map((frame) => (frame.type === 'BOOKMARK' ? undefined : frame))
    expect(changes.map((c) => (c?.previous?.spec as { revision: string } | undefined)?.revision)).toEqual([
      undefined,
      '1',
      '2',
    ])
    expect(changes[2]?.object.metadata.resourceVersion).toBe(String(store.snapshot().revision))
  })

  test('goes on from any revision, without a gap between the log and what comes later', async () => {
    const { store } = await aStore()
    for (let i = 1; i <= 1_100; i++) await store.transact((tx) => putModel(tx, 'a', String(i)))
    const from = store.snapshot().revision - 1_050
    const watch = new Watching(store, { from })
    const writing = Promise.all(Array.from({ length: 50 }, (_, i) => store.transact((tx) => putModel(tx, 'b', `${i}`))))
    const frames = await watch.until(1_100)
    await writing
    expect(frames.map((f) => f.revision)).toEqual(Array.from({ length: 1_100 }, (_, i) => from + i + 1))
  })

  test('from revision 0 replays everything that the log has', async () => {
    const { store } = await aStore()
    await store.transact((tx) => putModel(tx, 'a', '1'))
    await store.transact((tx) => tx.remove(remove('a')))
    expect((await new Watching(store, { from: 0 }).until(2)).map(told)).toEqual(['ADDED a@1', 'DELETED a@1'])
  })

  test('tells of the wanted kinds only, live and from the log', async () => {
    const { store } = await aStore()
    const from = store.snapshot().revision
    const live = new Watching(store, { from: 'initial', kinds: ['Node'] })
    await live.until(1)
    await store.transact((tx) => putModel(tx, 'a', '1'))
    await store.transact((tx) =>
      tx.put({
        ...putModel(tx, 'b', '1'),
        kind: 'Node',
        metadata: { ...putModel(tx, 'b', '1').metadata, uid: 'node' },
      }),
    )
    const later = new Watching(store, { from, kinds: ['Node'] })
    const kinds = (frames: readonly object[]) =>
      frames.map((f) => ('object' in f ? (f.object as { kind: string }).kind : 'BOOKMARK'))
    expect(kinds(await live.until(2))).toEqual(['BOOKMARK', 'Node'])
    expect(kinds(await later.until(1))).toEqual(['Node'])
  })

  test('from a compacted revision is Expired and names both', async () => {
    const { store } = await aStore()
    for (let i = 0; i < 10; i++) await store.transact((tx) => putModel(tx, 'a', String(i)))
    const { revision } = store.snapshot()
    await store.compact(revision - 3)
    const error = await new Watching(store, { from: revision - 4 }).ended
    expect(isOpError(error, 'Expired')).toBe(true)
    expect(String(error)).toContain(`too old resource version: ${revision - 4} (${revision - 3})`)
    expect((await new Watching(store, { from: revision - 3 }).until(3)).map(told)).toEqual([
      'MODIFIED a@7',
      'MODIFIED a@8',
      'MODIFIED a@9',
    ])
  })

  test('from a future revision is Expired', async () => {
    const { store } = await aStore()
    expect(isOpError(await new Watching(store, { from: store.snapshot().revision + 1 }).ended, 'Expired')).toBe(true)
  })

  test('that does not keep up is closed as unresponsive, and the others go on', async () => {
    const { store } = await aStore()
    const slow = store
      .watch({ from: 'initial', signal: new AbortController().signal, maxPending: 5 })
      [Symbol.asyncIterator]()
    await slow.next()
    const quick = new Watching(store, { from: 'initial', maxPending: 5 })
    await quick.until(1)
    for (let i = 0; i < 6; i++) await store.transact((tx) => putModel(tx, 'a', String(i)))
    await expect(slow.next()).rejects.toThrow(/due to unresponsiveness/)
    expect((await quick.until(7)).length).toBe(7)
  })

  test('that does not keep up with its initial state is closed too', async () => {
    const { store } = await aStore()
    await store.transact((tx) => [putModel(tx, 'a', '1'), putModel(tx, 'b', '1')])
    const slow = store
      .watch({ from: 'initial', signal: new AbortController().signal, maxPending: 1 })
      [Symbol.asyncIterator]()
    await slow.next()
    await store.transact((tx) => [putModel(tx, 'a', '2'), putModel(tx, 'b', '2')])
    await expect(slow.next()).rejects.toThrow(/due to unresponsiveness/)
  })

  test('shows the state at one revision, however slowly it is read', async () => {
    const { store } = await aStore()
    await store.transact((tx) => [putModel(tx, 'a', '1'), putModel(tx, 'b', '1')])
    const frames: string[] = []
    const stop = new AbortController()
    for await (const frame of store.watch({ from: 'initial', signal: stop.signal })) {
      frames.push(told(frame))
      if (frames.length === 1) await store.transact((tx) => [putModel(tx, 'b', '2'), putModel(tx, 'c', '1')])
      if (frames.length === 5) stop.abort()
    }
    expect(frames).toEqual(['ADDED a@1', 'ADDED b@1', 'BOOKMARK end of initial', 'MODIFIED b@2', 'ADDED c@1'])
  })

  test('ends without an error when its signal aborts, and with one when the store closes', async () => {
    const { store } = await aStore()
    const aborted = new Watching(store, { from: 'initial' })
    const left = new Watching(store, { from: 'initial' })
    await Promise.all([aborted.until(1), left.until(1)])
    aborted.stop()
    expect(await aborted.ended).toBeUndefined()
    await store.close()
    expect(isOpError(await left.ended, 'Unavailable')).toBe(true)
  })

  test('sees nothing of a transaction that failed', async () => {
    const { store } = await aStore()
    const watch = new Watching(store, { from: 'initial' })
    await watch.until(1)
    const failed = store.transact((tx) => {
      putModel(tx, 'a', '1')
      throw new Error('no')
    })
    await Promise.allSettled([failed, store.transact((tx) => putModel(tx, 'b', '1'))])
    await settle()
    expect(watch.frames.map(told)).toEqual(['BOOKMARK end of initial', 'ADDED b@1'])
  })
})
