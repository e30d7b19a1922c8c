import { describe, expect, test } from 'vitest'
import { settle } from '../../support/virtualclock.ts'
import { aDeployment, aNode, aServer, aShard, watching } from './fixture.ts'

describe('watch', () => {
  test('begins with a header and what there is, then a bookmark, then changes', async () => {
    const { person, store } = await aServer()
    const client = person()
    await client.create({ object: aNode('a') })
    const watch = watching(client, { kind: 'Node' })
    await settle()
    expect(watch.events[0]).toEqual({ type: 'HEADER', incarnation: store.incarnation, clusterUid: store.clusterUid })
    expect(await watch.told()).toEqual(['HEADER', 'ADDED a', 'LISTED'])
    await client.create({ object: aNode('b') })
    await client.patch({
      ref: { kind: 'Node', namespace: '', name: 'a' },
      type: 'merge',
      patch: { spec: { unschedulable: true } },
    })
    await client.create({ object: aDeployment('other-kind') })
    await client.delete({ ref: { kind: 'Node', namespace: '', name: 'b' } })
    expect(await watch.told()).toEqual(['ADDED b', 'MODIFIED a', 'DELETED b'])
  })

  test('an object that enters or leaves the selection is ADDED or DELETED', async () => {
    const { person } = await aServer()
    const client = person()
    const label = (name: string, team: string | null) =>
      client.patch({
        ref: { kind: 'Node', namespace: '', name },
        type: 'merge',
        patch: { metadata: { labels: { team } } },
      })
    await client.create({ object: aNode('a', { team: 'x' }) })
    await client.create({ object: aNode('b') })
    const watch = watching(client, { kind: 'Node', labelSelector: 'team=x' })
    expect(await watch.told()).toEqual(['HEADER', 'ADDED a', 'LISTED'])
    await label('b', 'x')
    await label('a', 'y')
    await label('a', 'z')
    await client.delete({ ref: { kind: 'Node', namespace: '', name: 'a' } })
    await client.delete({ ref: { kind: 'Node', namespace: '', name: 'b' } })
    expect(await watch.told()).toEqual(['ADDED b', 'DELETED a', 'DELETED b'])
  })

  test('a namespace narrows it', async () => {
    const { person } = await aServer()
    const client = person()
    const watch = watching(client, { kind: 'ModelDeployment', namespace: 'team' })
    await watch.told()
    await client.create({ object: aDeployment('a') })
    const inTeam = aDeployment('b')
    await client.create({ object: { ...inTeam, metadata: { ...inTeam.metadata, namespace: 'team' } } })
    expect(await watch.told()).toEqual(['ADDED b'])
  })

  test('resumes after a revision without gap or repetition', async () => {
    const { person, store } = await aServer()
    const client = person()
    await client.create({ object: aNode('a') })
    const { resourceVersion, incarnation } = await client.list({ kind: 'Node' })
    await client.create({ object: aNode('b') })
    await client.delete({ ref: { kind: 'Node', namespace: '', name: 'a' } })
    const watch = watching(client, { kind: 'Node', resourceVersion, incarnation })
    expect(await watch.told()).toEqual(['HEADER', 'ADDED b', 'DELETED a'])
    await client.create({ object: aNode('c') })
    expect(await watch.told()).toEqual(['ADDED c'])
    expect(store.incarnation).toBe(incarnation)
  })

  test('a leave that happened before the resume is told', async () => {
    const { person } = await aServer()
    const client = person()
    await client.create({ object: aNode('a', { team: 'x' }) })
    const { resourceVersion } = await client.list({ kind: 'Node', labelSelector: 'team=x' })
    await client.patch({
      ref: { kind: 'Node', namespace: '', name: 'a' },
      type: 'merge',
      patch: { metadata: { labels: { team: 'y' } } },
    })
    const watch = watching(client, { kind: 'Node', labelSelector: 'team=x', resourceVersion })
    expect(await watch.told()).toEqual(['HEADER', 'DELETED a'])
  })

  test('is Expired for a compacted revision, one of the future, and another incarnation', async () => {
    const { person, store } = await aServer()
    const client = person()
    await client.create({ object: aNode('a') })
    const { resourceVersion } = await client.list({ kind: 'Node' })
    await client.create({ object: aNode('b') })
    await store.compact(store.snapshot().revision)
    const ends = (request: object) => watching(client, { kind: 'Node', ...request }).ended
    expect(await ends({ resourceVersion })).toMatchObject({
      code: 'Expired',
      message: expect.stringMatching(/^too old/),
    })
    expect(await ends({ resourceVersion: '999999' })).toMatchObject({ code: 'Expired' })
    expect(await ends({ resourceVersion, incarnation: 'another' })).toMatchObject({ code: 'Expired' })
    // A restored store counts in microseconds of the day: a place of its is one, be it lost or not.
    expect(await ends({ resourceVersion: '1795682000000000' })).toMatchObject({ code: 'Expired' })
    expect(await ends({ resourceVersion: 'x' })).toMatchObject({ code: 'Invalid' })
    expect(await ends({ resourceVersion: '9'.repeat(17) })).toMatchObject({ code: 'Invalid' })
  })

  test('a quiet watch gets a bookmark each minute in which anything happened, never ahead of its events', async () => {
    const { person, clock, store } = await aServer()
    const client = person()
    const watch = watching(client, { kind: 'Node' })
    expect(await watch.told()).toEqual(['HEADER', 'LISTED'])
    await client.create({ object: aDeployment('other-kind') })
    await clock.advance(60_000)
    expect(watch.events).toEqual([
      { type: 'BOOKMARK', resourceVersion: String(store.snapshot().revision), initialEventsEnd: false },
    ])
    watch.events.length = 0
    await clock.advance(120_000)
    expect(await watch.told()).toEqual([])
    await client.create({ object: aNode('a') })
    expect(await watch.told()).toEqual(['ADDED a'])
    await clock.advance(60_000)
    expect(await watch.told()).toEqual([])
  })

  test('with a table it brings columns and rows', async () => {
    const { person } = await aServer()
    const client = person()
    await client.create({ object: aNode('a') })
    const watch = watching(client, { kind: 'Node', table: true })
    await settle()
    expect(watch.events[0]).toMatchObject({
      type: 'HEADER',
      columns: expect.arrayContaining([{ name: 'NAME', priority: 0 }]),
    })
    expect(watch.events[1]).toMatchObject({ type: 'ADDED', row: { cells: expect.arrayContaining(['a']) } })
  })

  test('an agent watches the shards of its own node, and of no other', async () => {
    const { person, agent } = await aServer()
    const watch = watching(agent('mini-1'), { kind: 'Shard', fieldSelector: 'spec.nodeName=mini-1' })
    await person().create({ object: aShard('mini-2', 'tiny-1') })
    await person().create({ object: aShard('mini-1') })
    expect(await watch.told()).toEqual(['HEADER', 'LISTED', 'ADDED tiny-0-e1-0'])
    const other = watching(agent('mini-1'), { kind: 'Shard', fieldSelector: 'spec.nodeName=mini-2' })
    expect(await other.ended).toMatchObject({ code: 'Forbidden' })
  })

  test('a watch that is left leaves nothing behind', async () => {
    const { person, clock } = await aServer()
    const client = person()
    const watch = watching(client, { kind: 'Node' })
    await watch.told()
    watch.stop()
    expect(await watch.ended).toMatchObject({ code: 'Cancelled' })
    await client.create({ object: aNode('a') })
    await clock.advance(120_000)
    expect(watch.events).toEqual([])
  })
})
