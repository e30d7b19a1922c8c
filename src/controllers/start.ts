/** Starts every loop of the control plane over one store. */
import { authorityLoop } from './authority.ts'
import type { Controller, ControllerDoors } from './controller.ts'
import { startController } from './controller.ts'
import { gcLoop } from './gc.ts'
import { linkMeasureLoop } from './linkmeasure.ts'
import { linksLoop } from './links.ts'
import { modelLoop } from './model.ts'
import { modelDeploymentLoop } from './modeldeployment.ts'
import { nodeLoop } from './node.ts'
import { shardLoop } from './shard.ts'
import { shardGroupLoop } from './shardgroup.ts'
import { watchSilence } from './silence.ts'

export type { ControllerDoors } from './controller.ts'

/**
 * Runs until `stop`, which resolves when no loop is in the middle of a pass. `idle` resolves when no loop has anything
 * left to do now (waits in the future do not count): for tests and for a clean end.
 */
export function startControllers(outside: ControllerDoors): Controller {
  const silence = watchSilence(outside)
  const doors = { ...outside, silentForMs: () => silence.forMs() }
  const loops = [
    nodeLoop(doors),
    linksLoop(doors),
    linkMeasureLoop(doors),
    shardLoop(doors),
    shardGroupLoop(doors),
    modelDeploymentLoop(doors),
    gcLoop(doors),
    authorityLoop(doors),
  ]
  if (doors.hub !== undefined) loops.push(modelLoop(doors, doors.hub))
  const controllers = loops.map((loop) => startController(doors, loop))
  return {
    async idle() {
      let revision: number
      do {
        revision = doors.store.stats().revision
        await Promise.all(controllers.map((c) => c.idle()))
      } while (doors.store.stats().revision !== revision)
    },
    async stop() {
      silence.stop()
      await Promise.all(controllers.map((c) => c.stop()))
    },
  }
}
