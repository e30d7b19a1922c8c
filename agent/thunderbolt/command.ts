/** `mctl agent --configure-thunderbolt --dry-run` and `--undo-thunderbolt`: one look, or one undoing, and no agent. */
import type { NodeCable } from '../../src/api/node.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { Intent, ThunderboltDoors } from './configure.ts'
import { lookAtThunderbolt, setThunderbolt } from './configure.ts'
import type { LinkRefusal, LinkStep } from './plan.ts'

export interface ThunderboltReport {
  /** What would be done, or was. */
  readonly steps: readonly LinkStep[]
  readonly refusals: readonly LinkRefusal[]
  readonly cables: readonly NodeCable[]
}

export interface Person {
  readonly platform: NodeJS.Platform
  readonly isRoot: boolean
}

/** OpError Invalid, with what to do, where addresses of Thunderbolt links cannot be set. */
export function checkThunderbolt({ platform, isRoot }: Person, isDryRun: boolean): void {
  if (platform !== 'darwin')
    throw new OpError(
      'Invalid',
      'set addresses of Thunderbolt links: that is for macOS. Here, give the interfaces addresses in a subnet of their own with what configures this machine’s network; mctl finds the links by them',
    )
  if (!isRoot && !isDryRun)
    throw new OpError(
      'Invalid',
      'set addresses of Thunderbolt links: only root may. Say it again with sudo -E, or see what would be done with --dry-run',
    )
}

/** What setting would do; nothing is changed. OpError Unavailable when this Mac cannot be read. */
export const reportSetting = async (doors: ThunderboltDoors, cables: readonly NodeCable[], ownAddress: string) =>
  look(doors, { wish: { kind: 'Set', cables }, ownAddress })

export const UNDO_FAILED = 'undo addresses of Thunderbolt links'

/** Gives back what was taken; with `isDryRun` it only says how. OpError Unavailable with what is left to do when it did not work. */
export async function undoThunderbolt(doors: ThunderboltDoors, isDryRun: boolean): Promise<ThunderboltReport> {
  const intent: Intent = { wish: { kind: 'Undo' }, ownAddress: '' }
  if (isDryRun) return look(doors, intent)
  const outcome = await setThunderbolt(doors, intent)
  if (outcome.kind !== 'Done')
    throw new OpError(
      'Unavailable',
      `${UNDO_FAILED}: ${outcome.message}. Say it again; a restart of this Mac undoes it, too`,
    )
  return { steps: outcome.ran, refusals: [], cables: [] }
}

async function look(doors: ThunderboltDoors, intent: Intent): Promise<ThunderboltReport> {
  const plan = await lookAtThunderbolt(doors, intent)
  if (plan === undefined)
    throw new OpError(
      'Unavailable',
      'look at this Mac’s ports: networksetup, ifconfig or system_profiler did not answer as they should',
    )
  const { steps, refusals, cables } = plan
  return { steps, refusals, cables }
}
