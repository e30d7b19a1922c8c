/** The loop of hub sources: a real store and real loops; only the hub beyond the network is played. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findCondition } from '../../../src/api/conditions.ts'
import { API_VERSION } from '../../../src/api/meta.ts'
import type { Model } from '../../../src/api/model.ts'
import type { HubModel, ModelHub } from '../../../src/api/modelhub.ts'
import { systemModelName } from '../../../src/api/modelname.ts'
import { OpError } from '../../../src/lib/errors.ts'
import { patchObject } from '../../../src/store/objects.ts'
import { tinyShape } from '../../support/cluster.ts'
import { ControlPlane } from '../../support/controlplane.ts'
import { settle } from '../../support/virtualclock.ts'

const source = 'hf://mlx-community/tiny'
const commit = 'a'.repeat(40)
const read: HubModel = {
  shape: tinyShape,
  digest: `sha256:${'b'.repeat(64)}`,
  resolvedRevision: commit,
  files: [{ name: 'config.json', sizeBytes: 12, sha256: 'c'.repeat(64) }],
}

/** Answers when the test says so. */
class PlayedHub implements ModelHub {
  readonly asked: string[] = []
  readonly #open: { key: string; resolve: (model: HubModel) => void; reject: (error: Error) => void }[] = []

  readFile(url: string, _: string | undefined, signal: AbortSignal): Promise<HubModel> {
    return this.read(url, '', signal)
  }

  read(repository: string, revision: string, signal: AbortSignal): Promise<HubModel> {
    const key = `${repository}@${revision}`
    this.asked.push(key)
    return new Promise((resolve, reject) => {
      this.#open.push({ key, resolve, reject })
      signal.addEventListener('abort', () => reject(new OpError('Cancelled', 'stopped')))
    })
  }

  get open(): readonly string[] {
    return this.#open.map(({ key }) => key)
  }

  answer(model: Partial<HubModel> = {}): void {
    this.#open.shift()?.resolve({ ...read, ...model })
  }

  fail(error: OpError): void {
    this.#open.shift()?.reject(error)
  }
}

let hub: PlayedHub
let plane: ControlPlane
beforeEach(async () => {
  hub = new PlayedHub()
  plane = await ControlPlane.start(hub)
  await plane.addNode('mini-1')
})
afterEach(() => plane.stop())

const settled = async () => {
  await settle()
  await plane.idle()
}
const model = (name = systemModelName(source, 'main')): Model | undefined => plane.get('Model', name)
const condition = (name?: string) => findCondition(model(name)?.status?.conditions, 'Resolved')
const scheduled = (name: string) => findCondition(plane.get('ModelDeployment', name)?.status?.conditions, 'Scheduled')
const named = (revision?: string) => ({ model: revision === undefined ? { source } : { source, revision } })
const addModel = (name: string, spec: object) =>
  plane.create({ apiVersion: API_VERSION, kind: 'Model', metadata: { name }, spec })

describe('a deployment names a source on the hub', () => {
  test('the system writes its Model, and what the headers say into it', async () => {
    await plane.deploy('chat', named())
    await settled()
    expect(hub.open).toEqual(['mlx-community/tiny@main'])
    expect(condition()).toMatchObject({ status: 'Unknown', reason: 'Reading' })
    expect(scheduled('chat')).toMatchObject({
      status: 'Unknown',
      reason: 'ModelShapePending',
      message: `waiting for the shape of the model: reading ${source} at main from the hub`,
    })
    hub.answer()
    await settled()
    expect(model()?.spec).toEqual({ source, revision: 'main' })
    expect(model()?.status).toMatchObject({ ...read, conditions: [{ type: 'Resolved', status: 'True' }] })
    expect(condition()?.message).toMatch(
      /^commit [0-9a-f]{40}: \d files?, \d+ bytes; it stays when main moves on: delete this Model to have that read anew$/,
    )
    expect(scheduled('chat')?.reason).not.toBe('ModelShapePending')
    expect(plane.reasons()).toContain('Resolved')
  })
  test('the hub is asked once per source and revision, whoever names it', async () => {
    await plane.deploy('one', named())
    await plane.deploy('two', named('main'))
    await plane.deploy('three', named('v1'))
    await addModel('mine', { source })
    await settled()
    expect([...hub.asked].sort()).toEqual(['mlx-community/tiny@main', 'mlx-community/tiny@v1'])
    hub.answer()
    hub.answer()
    await settled()
    expect(model('mine')?.status).toMatchObject(read)
    await plane.deploy('four', named())
    await addModel('mine-too', { source, revision: 'main' })
    await settled()
    expect(model('mine-too')?.status).toMatchObject(read)
    expect(hub.asked).toHaveLength(2)
  })
  test('what is settled is left alone', async () => {
    await plane.deploy('chat', named())
    await settled()
    hub.answer()
    await settled()
    // Past the deployment's own deadline, which is told once.
    await plane.clock.advance(20 * 60_000)
    const { revision } = plane.store.stats()
    await plane.clock.advance(60 * 60_000)
    expect(plane.store.stats().revision).toBe(revision)
    expect(hub.asked).toHaveLength(1)
  })
  test('four are read at once, the others in their turn', async () => {
    for (let i = 0; i < 6; i++) await plane.deploy(`chat-${i}`, named(`v${i}`))
    await settled()
    expect(hub.open).toHaveLength(4)
    hub.answer()
    await settled()
    expect(hub.asked).toHaveLength(5)
  })
})

describe('who is not asked for', () => {
  test.each([
    ['a source of files', { source: 'file:tiny' }],
    ['a shape that a person wrote', { source, shape: tinyShape }],
  ])('%s', async (_, spec) => {
    await addModel('mine', spec)
    await settled()
    expect(hub.asked).toEqual([])
    expect(model('mine')?.status).toBeUndefined()
  })
  test('but a deployment of a written shape needs its files', async () => {
    await addModel('mine', { source, shape: tinyShape })
    await plane.deploy('chat', { model: { name: 'mine' } })
    await settled()
    hub.answer()
    await settled()
    expect(model('mine')?.status?.files).toEqual(read.files)
  })
})

describe('what cannot be read', () => {
  test('is told on the Model and on who waits, and tried again with growing pauses', async () => {
    await plane.deploy('chat', named())
    await settled()
    hub.fail(new OpError('Unauthorized', 'read hf://mlx-community/tiny: the repository is gated: accept its terms'))
    await settled()
    expect(condition()).toMatchObject({ status: 'False', reason: 'Unauthorized' })
    expect(scheduled('chat')?.message).toBe(
      'waiting for the shape of the model: read hf://mlx-community/tiny: the repository is gated: accept its terms',
    )
    await plane.clock.advance(4_000)
    expect(hub.asked).toHaveLength(1)
    await plane.clock.advance(3_000)
    expect(hub.asked).toHaveLength(2)
    expect(condition()?.reason).toBe('Unauthorized')
    hub.fail(new OpError('Unavailable', 'read hf://mlx-community/tiny: it answers 503', { retryAfterSeconds: 90 }))
    await settled()
    expect(condition()).toMatchObject({ status: 'False', reason: 'HubUnavailable' })
    await plane.clock.advance(80_000)
    expect(hub.asked).toHaveLength(2)
    await plane.clock.advance(11_000)
    hub.answer()
    await settled()
    expect(condition()?.status).toBe('True')
    expect(scheduled('chat')?.reason).not.toBe('ModelShapePending')
  })
  test('a shape that contradicts itself', async () => {
    await plane.deploy('chat', named())
    await settled()
    hub.answer({ shape: { ...tinyShape, kvHeads: tinyShape.attentionHeads + 1 } })
    await settled()
    expect(condition()).toMatchObject({ status: 'False', reason: 'ModelInvalid' })
    expect(condition()?.message).toContain('status.shape.kvHeads: Invalid value')
  })
  test('is not asked for any more when nobody names it', async () => {
    await plane.deploy('chat', { ...named(), paused: true })
    await settled()
    hub.fail(new OpError('NotFound', 'no such repository'))
    await settled()
    await plane.delete('ModelDeployment', 'chat')
    await plane.delete('Model', systemModelName(source, 'main'))
    await plane.clock.advance(60 * 60_000)
    expect(hub.asked).toHaveLength(1)
  })
})

test('another revision is another reading, and a stop ends what is under way', async () => {
  await addModel('mine', { source, revision: 'v1' })
  await settled()
  hub.answer()
  await settled()
  expect(condition('mine')?.status).toBe('True')
  const key = { kind: 'Model', namespace: '', name: 'mine' }
  await plane.store.transact((tx) => patchObject(tx, key, 'merge', { spec: { revision: 'v2' } }))
  await settled()
  expect(hub.asked).toEqual(['mlx-community/tiny@v1', 'mlx-community/tiny@v2'])
  expect(condition('mine')).toMatchObject({ status: 'Unknown', reason: 'Reading' })
})
