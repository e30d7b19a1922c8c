/**
 * Carries out what plan.ts says, and makes no choices: looks, has it planned, writes down what will be changed, runs the
 * commands one by one, and looks again. A command that fails ends the pass; the next pass finds the rest to be done.
 */
import { isDeepStrictEqual } from 'node:util'
import { bootIdOf } from '../observe/darwin/observe.ts'
import { readNetwork } from '../observe/darwin/ports.ts'
import type { MachineDoors } from '../observe/facts.ts'
import type { LinkPlan, LinkStep, LinkWish } from './plan.ts'
import { planThunderbolt } from './plan.ts'
import type { LinkRecordFile } from './record.ts'
import type { LinkScene } from './scene.ts'
import { sceneOf } from './scene.ts'

export interface RanCommand {
  readonly code: number
  /** stdout and stderr. */
  readonly output: string
}

export interface ThunderboltDoors {
  /** Reads the machine: undefined where a command failed. */
  readonly runText: MachineDoors['runText']
  /** Changes the machine; needs root. Never rejects. */
  readonly change: (argv: readonly string[]) => Promise<RanCommand>
  readonly record: LinkRecordFile
}

export interface Intent {
  readonly wish: LinkWish
  /** Own address on the way to the server. */
  readonly ownAddress: string
  /** Addresses that gangs which run now use; absent: none. */
  readonly inUse?: readonly string[]
}

export type Outcome =
  | { readonly kind: 'Unreadable'; readonly message: string }
  /** `plan`: as it was before; `ran`: the steps that were carried out. */
  | { readonly kind: 'Done'; readonly plan: LinkPlan; readonly ran: readonly LinkStep[] }
  | { readonly kind: 'Failed'; readonly plan: LinkPlan; readonly ran: readonly LinkStep[]; readonly message: string }

/** What would be done. Changes nothing. */
export async function lookAtThunderbolt(
  doors: ThunderboltDoors,
  { wish, ownAddress, inUse = [] }: Intent,
): Promise<LinkPlan | undefined> {
  const [scene, bootId] = await Promise.all([readScene(doors), bootIdOf(doors)])
  return scene && planThunderbolt({ scene, wish, record: doors.record.read(), bootId, ownAddress, inUse })
}

/** Does it. A second look must find nothing more to do, else it did not hold. */
export async function setThunderbolt(doors: ThunderboltDoors, intent: Intent): Promise<Outcome> {
  const plan = await lookAtThunderbolt(doors, intent)
  if (plan === undefined) return unreadable
  if (!isDeepStrictEqual(plan.record, doors.record.read())) doors.record.write(plan.record)
  const ran: LinkStep[] = []
  for (const step of plan.steps) {
    const { code, output } = await doors.change(step.argv)
    if (code !== 0)
      return { kind: 'Failed', plan, ran, message: `${step.argv.join(' ')} exited with ${code}: ${output.trim()}` }
    ran.push(step)
  }
  const after = ran.length === 0 ? plan : await lookAtThunderbolt(doors, intent)
  if (after === undefined) return unreadable
  const [left] = after.steps
  if (left !== undefined)
    return { kind: 'Failed', plan, ran, message: `${left.argv.join(' ')} was carried out, but did not hold` }
  if (intent.wish.kind === 'Undo') doors.record.write({ ...after.record, given: [], raised: [], bridges: [] })
  return { kind: 'Done', plan, ran }
}

const unreadable: Outcome = {
  kind: 'Unreadable',
  message: 'networksetup, ifconfig or system_profiler did not answer as they should',
}

async function readScene(doors: Pick<MachineDoors, 'runText'>): Promise<LinkScene | undefined> {
  const texts = await readNetwork(doors)
  return texts && sceneOf(texts)
}
