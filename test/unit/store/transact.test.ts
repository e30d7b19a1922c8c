import { describe, expect, test } from 'vitest'
import { OpError } from '../../../src/lib/errors.ts'
import type { Change } from '../../../src/store/store.ts'
import { aRawModel, aStore, putModel, revisionOf } from '../../support/stores.ts'

const names = (objects: readonly { metadata: { name: string } }[]) => objects.map((o) => o.metadata.name)

describe('a transaction', () => {
  test('reads its own writes and those that run before it, and shows them to nobody else before the commit', async () => {
    const { store } = await aStore()
    const first = store.transact((tx) => putModel(tx, 'a', '1'))
    const second = store.transact((tx) => {
      expect(tx.get('Model', '', 'a')?.spec.revision).toBe('1')
      putModel(tx, 'b', '1')
      expect(names(tx.list('Model'))).toEqual(['a', 'b'])
      expect(names(store.snapshot().list('Model'))).toEqual([])
      expect(store.snapshot().get('Model', '', 'a')).toBeUndefined()
    })
    expect(names(store.snapshot().list('Model'))).toEqual([])
    await Promise.all([first, second])
    expect(names(store.snapshot().list('Model'))).toEqual(['a', 'b'])
  })

  test('that throws takes back its own writes alone, whatever shares its commit', async () => {
    const { store } = await aStore()
    await store.transact((tx) => putModel(tx, 'kept', '1'))
    const before = store.transact((tx) => putModel(tx, 'before', '1'))
    const failing = store.transact((tx) => {
      putModel(tx, 'kept', '2')
      putModel(tx, 'new', '1')
      tx.remove({ kind: 'Model', namespace: '', name: 'before' })
      throw new OpError('Conflict', 'no')
    })
    const after = store.transact((tx) => [...names(tx.list('Model')), tx.get('Model', '', 'kept')?.spec.revision])
    await expect(failing).rejects.toThrow('no')
    expect(await after).toEqual(['before', 'kept', '1'])
    expect(revisionOf(await before)).toBe(store.snapshot().revision)
    expect(names(store.snapshot().list('Model'))).toEqual(['before', 'kept'])
  })

  test('that waits with others shares one commit with them, in order', async () => {
    const { store } = await aStore()
    const commits: (readonly Change[])[] = []
    store.onCommit((changes) => commits.push(changes))
    await Promise.all(['a', 'b', 'c'].map((name) => store.transact((tx) => putModel(tx, name, '1'))))
    expect(commits.map((changes) => changes.map((c) => `${c.type} ${c.object.metadata.name}`))).toEqual([
      ['ADDED a', 'ADDED b', 'ADDED c'],
    ])
  })

  test('is visible to snapshots when its listeners and its promise hear of it', async () => {
    const { store } = await aStore()
    const seen: string[] = []
    store.onCommit(() => seen.push(`listener ${names(store.snapshot().list('Model')).join()}`))
    await store.transact((tx) => putModel(tx, 'a', '1')).then(() => seen.push('promise'))
    expect(seen).toEqual(['listener a', 'promise'])
  })

  test('that writes what stands already makes no revision and returns the identical object', async () => {
    const { store } = await aStore()
    const commits: number[] = []
    const first = await store.transact((tx) => putModel(tx, 'a', '1'))
    store.onCommit((changes) => commits.push(changes.length))
    const again = await store.transact((tx) => putModel(tx, 'a', '1'))
    expect(again).toBe(first)
    expect(store.snapshot().revision).toBe(revisionOf(first))
    expect(commits).toEqual([])
  })

  test('gives each write a higher revision, and the object carries it', async () => {
    const { store } = await aStore()
    const revisions = await store.transact((tx) => ['1', '2', '3'].map((v) => revisionOf(putModel(tx, 'a', v))))
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b))
    expect(new Set(revisions).size).toBe(3)
    expect(store.snapshot().revision).toBe(revisions[2])
  })

  test('gives out frozen objects', async () => {
    const { store } = await aStore()
    const object = await store.transact((tx) => putModel(tx, 'a', '1'))
    expect(() => Object.assign(object.spec, { revision: '2' })).toThrow(TypeError)
    expect(() => Object.assign(object.metadata, { name: 'b' })).toThrow(TypeError)
  })

  test('removes only what stands', async () => {
    const { store } = await aStore()
    const removing = store.transact((tx) => tx.remove({ kind: 'Model', namespace: '', name: 'x' }))
    await expect(removing).rejects.toThrow(new OpError('NotFound', 'models.mctl.dev "x" not found'))
  })

  test('may not be asynchronous, nor be used after its end', async () => {
    const { store } = await aStore()
    await expect(store.transact((tx) => Promise.resolve(putModel(tx, 'a', '1')))).rejects.toThrow(/synchronous/)
    const kept = await store.transact((tx) => tx)
    expect(() => kept.get('Model', '', 'a')).toThrow(/after its end/)
    expect(names(store.snapshot().list('Model'))).toEqual([])
  })

  test('that is refused by admission writes nothing', async () => {
    const admit = (_after: unknown, changes: readonly Change[]) => {
      if (changes.some((c) => c.object.metadata.name === 'bad')) throw new OpError('Forbidden', 'not this one')
    }
    const { store } = await aStore({ admit })
    const refused = store.transact((tx) => [putModel(tx, 'good', '1'), putModel(tx, 'bad', '1')])
    await expect(refused).rejects.toThrow('not this one')
    expect(names(store.snapshot().list('Model'))).toEqual([])
  })

  test('may make as many changes as a block of revisions has, and more than that is refused whole', async () => {
    const { store } = await aStore({ revisionBlock: 10 })
    const write = (count: number) =>
      store.transact((tx) => Array.from({ length: count }, (_, i) => putModel(tx, `m${i}`, `of ${count}`)).length)
    expect(await write(10)).toBe(10)
    await expect(write(1000)).rejects.toThrow(/may not make more than/)
    expect(store.snapshot().list('Model')).toHaveLength(10)
    for (let i = 1; i < 20; i++) expect(await write(i)).toBe(i)
  })
})

describe('a rehearsal', () => {
  test('sees its writes and leaves none', async () => {
    const { store } = await aStore()
    await store.transact((tx) => putModel(tx, 'a', '1'))
    const { revision } = store.snapshot()
    const inside = await store.transact((tx) => {
      const rehearsed = tx.rehearse(() => [putModel(tx, 'a', '2').spec.revision, names(tx.list('Model')).length])
      return [...rehearsed, tx.get('Model', '', 'a')?.spec.revision]
    })
    expect(inside).toEqual(['2', 1, '1'])
    expect(store.snapshot().revision).toBe(revision)
  })
})

describe('a snapshot', () => {
  test('stays what it was while the store goes on', async () => {
    const { store } = await aStore()
    await store.transact((tx) => [putModel(tx, 'a', '1'), putModel(tx, 'b', '1')])
    const old = store.snapshot()
    const bUid = old.get('Model', '', 'b')?.metadata.uid as string
    await store.transact((tx) => [putModel(tx, 'a', '2'), putModel(tx, 'c', '1')])
    await store.transact((tx) => tx.remove({ kind: 'Model', namespace: '', name: 'b' }))
    expect(old.list('Model').map((o) => [o.metadata.name, o.spec.revision])).toEqual([
      ['a', '1'],
      ['b', '1'],
    ])
    expect(old.get('Model', '', 'a')?.spec.revision).toBe('1')
    expect(old.get('Model', '', 'c')).toBeUndefined()
    expect(old.getByUid(bUid)?.metadata.name).toBe('b')
    expect(store.snapshot().getByUid(bUid)).toBeUndefined()
    expect(names(store.snapshot().list('Model'))).toEqual(['a', 'c'])
  })

  test('a list that was given out is not changed by later writes', async () => {
    const { store } = await aStore()
    await store.transact((tx) => putModel(tx, 'b', '1'))
    const list = store.snapshot().list('Model')
    await store.transact((tx) => putModel(tx, 'a', '1'))
    expect(names(list)).toEqual(['b'])
  })

  test('lists by namespace and name, all namespaces or one', async () => {
    const { store } = await aStore()
    const group = (namespace: string, name: string) =>
      store.transact((tx) => {
        const model = aRawModel(tx, name, '1')
        return tx.put({ ...model, kind: 'ShardGroup', metadata: { ...model.metadata, namespace } })
      })
    for (const [namespace, name] of ['b/x', 'a/y', 'b/a', 'a/b'].map((k) => k.split('/') as [string, string]))
      await group(namespace, name)
    const keys = (namespace?: string) =>
      store
        .snapshot()
        .list('ShardGroup', namespace)
        .map((o) => `${o.metadata.namespace}/${o.metadata.name}`)
    expect(keys()).toEqual(['a/b', 'a/y', 'b/a', 'b/x'])
    expect(keys('b')).toEqual(['b/a', 'b/x'])
    expect(keys('c')).toEqual([])
  })

  test('finds what an owner owns by its uid, of any kind, and follows changes of owners', async () => {
    const { store } = await aStore()
    const ownedBy = (uid: string) => names(store.snapshot().ownedBy(uid))
    const own = (name: string, owner: string) => ({
      ownerReferences: [{ kind: 'Model', name: owner, uid: owner }],
      name,
    })
    await store.transact((tx) => {
      const model = aRawModel(tx, 'child', '1')
      tx.put({ ...model, metadata: { ...model.metadata, ...own('child', 'owner-1') } })
    })
    expect([ownedBy('owner-1'), ownedBy('owner-2')]).toEqual([['child'], []])
    await store.transact((tx) => {
      const model = tx.get('Model', '', 'child') as ReturnType<typeof aRawModel>
      tx.put({ ...model, metadata: { ...model.metadata, ...own('child', 'owner-2') } })
    })
    expect([ownedBy('owner-1'), ownedBy('owner-2')]).toEqual([[], ['child']])
    await store.transact((tx) => tx.remove({ kind: 'Model', namespace: '', name: 'child' }))
    expect(ownedBy('owner-2')).toEqual([])
  })
})
