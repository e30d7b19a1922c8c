import { describe, expect, test } from 'vitest'
import type { InvolvedObject } from '../../../src/api/records.ts'
import { validate } from '../../../src/api/validate.ts'
import type { Manifest } from '../../../src/api/meta.ts'
import { recordEvent } from '../../../src/store/objects.ts'
import type { Store } from '../../../src/store/store.ts'
import { aStore } from '../../support/stores.ts'

const chat: InvolvedObject = {
  apiVersion: 'mctl.dev/v1alpha1',
  kind: 'ModelDeployment',
  namespace: 'default',
  name: 'chat',
  uid: 'uid-1',
}
const record = (store: Store, message: string, about: InvolvedObject = chat) =>
  store.transact((tx) =>
    recordEvent(tx, {
      involvedObject: about,
      type: 'Normal',
      reason: 'Placed',
      message,
      source: { component: 'test' },
    }),
  )
const listed = (store: Store) => store.snapshot().list('Event')

describe('an event', () => {
  test('that happens again is counted, not written twice', async () => {
    const { store, clock } = await aStore()
    const first = await record(store, 'on mini-1')
    await clock.advance(5_000)
    const again = await record(store, 'on mini-1')
    expect(listed(store)).toEqual([again])
    expect(again).toMatchObject({ count: 2, firstTimestamp: first.firstTimestamp })
    expect(again.lastTimestamp > first.lastTimestamp).toBe(true)
  })

  test('is another one for another object, even of the same name', async () => {
    const { store } = await aStore()
    await record(store, 'on mini-1')
    await record(store, 'on mini-1', { ...chat, uid: 'uid-2' })
    expect(listed(store)).toHaveLength(2)
  })

  test('of a thing without a namespace stands in default', async () => {
    const { store } = await aStore()
    const { namespace: _none, ...node } = chat
    expect((await record(store, 'gone', { ...node, kind: 'Node' })).metadata.namespace).toBe('default')
  })

  test('is a sound object', async () => {
    const { store } = await aStore()
    const event = await record(store, 'x', { ...chat, name: `${'a'.repeat(60)}.`.repeat(4) + 'b' })
    expect(validate(event as unknown as Manifest)).toEqual([])
  })

  test('that differs from ten others only by its message is told as one with those to come', async () => {
    const { store } = await aStore()
    for (let i = 0; i < 14; i++) await record(store, `try ${i}`)
    expect(listed(store)).toHaveLength(11)
    const combined = listed(store).find((event) => event.message.startsWith('(combined from similar events): '))
    expect(combined).toMatchObject({ count: 4, message: '(combined from similar events): try 13' })
  })

  test('stands by itself when the similar ones are long ago', async () => {
    const { store, clock } = await aStore()
    for (let i = 0; i < 10; i++) await record(store, `try ${i}`)
    await clock.advance(601_000)
    expect((await record(store, 'try again')).message).toBe('try again')
  })

  test('goes after a day without being seen again', async () => {
    const { store, clock } = await aStore()
    await record(store, 'once')
    await record(store, 'twice')
    await clock.advance(20 * 3_600_000)
    await record(store, 'twice')
    await clock.advance(5 * 3_600_000)
    expect(listed(store).map((event) => event.message)).toEqual(['twice'])
  })
})
