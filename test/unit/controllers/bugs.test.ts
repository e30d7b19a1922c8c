import { expect, test } from 'vitest'
import { startController } from '../../../src/controllers/controller.ts'
import type { Loop } from '../../../src/controllers/controller.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { deleteObject } from '../../../src/store/objects.ts'
import { ControlPlane } from '../../support/controlplane.ts'
import { SeededRandom } from '../../support/virtualclock.ts'

test('a bug in the pass of one object is told on it and tried again, and every other object is looked after', async () => {
  const plane = await ControlPlane.start()
  await plane.addModel('good')
  await plane.addModel('cursed')
  const passes: string[] = []
  const loop: Loop = {
    name: 'test',
    allKeys: (snapshot) => snapshot.list('Model').map((m) => `Model//${m.metadata.name}`),
    keysOf: () => [],
    reconcile(key) {
      passes.push(key)
      return plane.store.transact((tx) => {
        if (!key.endsWith('cursed')) return undefined
        deleteObject(tx, { kind: 'Model', namespace: '', name: 'good' })
        throw new TypeError('bug: the curse')
      })
    },
  }
  const doors = {
    store: plane.store,
    sessions: plane.sessions,
    clock: plane.clock,
    random: new SeededRandom(1),
    log: silentLogger,
    gatewayUrl: () => undefined,
  }
  const controller = startController(doors, loop)
  await plane.clock.advance(60_000)
  expect(passes.filter((key) => key.endsWith('good'))).toHaveLength(1)
  expect(passes.filter((key) => key.endsWith('cursed')).length).toBeGreaterThan(3)
  const told = plane.store
    .snapshot()
    .list('Event')
    .filter((e) => e.reason === 'ControllerBug')
  expect(told.map((e) => [e.involvedObject.name, e.type])).toEqual([['cursed', 'Warning']])
  expect(told[0]?.message).toContain('bug: the curse')
  expect(plane.names('Model')).toContain('good')
  await controller.stop()
  await plane.stop()
})
