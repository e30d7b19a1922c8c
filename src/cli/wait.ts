/** `mctl wait --for=condition=Ready md/x`: until it holds, or the timeout. A condition of an older generation does not count. */
import { findCondition } from '../api/conditions.ts'
import { kinds, qualifiedName } from '../api/kinds.ts'
import type { Condition, MctlObject } from '../api/meta.ts'
import { sleep } from '../lib/clock.ts'
import { isOpError } from '../lib/errors.ts'
import type { Client, ObjectRef } from '../rpc/messages.ts'
import type { Cli } from './context.ts'
import { CliError, refOf, targetsOf, withClient } from './context.ts'
import { parseDurationMs } from './durations.ts'

export interface WaitFlags {
  readonly server?: string
  readonly namespace?: string
  readonly for?: string
  readonly timeout?: string
  readonly all?: boolean
}

/** True when the object (undefined: absent) satisfies what is waited for. */
type Holds = (object: MctlObject | undefined) => boolean
interface Awaited {
  readonly holds: Holds
  /** Absence of the object is no error. */ readonly absenceAllowed: boolean
}

const POLL_MS = 200
const WEEK_MS = 7 * 86_400_000

export async function wait(cli: Cli, words: readonly string[], flags: WaitFlags): Promise<number> {
  const awaited = parseFor(flags.for)
  const timeoutMs = parseDurationMs(flags.timeout ?? '30s')
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(client, words, flags)
    if (refs.length === 0) throw new CliError('no matching resources found')
    const untilMs = cli.clock.monotonicMs() + (timeoutMs < 0 ? WEEK_MS : timeoutMs)
    for (const ref of refs) {
      await waitFor(cli, client, ref, awaited, untilMs)
      cli.terminal.out(`${qualifiedName(ref.kind, ref.name)} condition met\n`)
    }
    return 0
  })
}

function parseFor(text: string | undefined): Awaited {
  if (text === undefined) throw new CliError('--for is required, for example --for=condition=Ready or --for=delete')
  if (text === 'delete') return { holds: (object) => object === undefined, absenceAllowed: true }
  if (text === 'create') return { holds: (object) => object !== undefined, absenceAllowed: true }
  const condition = /^condition=([^=]+)(?:=(.+))?$/.exec(text)
  if (condition === null)
    throw new CliError(`unrecognized condition: "${text}"; use condition=NAME[=VALUE], delete or create`)
  const [, type = '', value = 'True'] = condition
  return { holds: (object) => object !== undefined && conditionHolds(object, type, value), absenceAllowed: false }
}

function conditionHolds(object: MctlObject, type: string, value: string): boolean {
  const status = object.status as { conditions?: readonly Condition[]; observedGeneration?: number } | undefined
  const condition = findCondition(status?.conditions, type)
  const observed = condition?.observedGeneration ?? status?.observedGeneration
  if (observed !== undefined && observed < object.metadata.generation) return false
  return condition?.status.toLowerCase() === value.toLowerCase()
}

async function refsOf(client: Client, words: readonly string[], flags: WaitFlags): Promise<readonly ObjectRef[]> {
  const refs: ObjectRef[] = []
  for (const { kind, name } of targetsOf(words)) {
    if (name !== undefined) refs.push(refOf(kind, name, flags.namespace))
    else if (!flags.all)
      throw new CliError('resource(s) were provided, but no name was specified; use --all for all of them')
    else {
      const { namespace } = refOf(kind, '', flags.namespace)
      const { items } = await client.list({ kind, ...(namespace === '' ? {} : { namespace }) })
      refs.push(...items.map((item) => refOf(kind, item.metadata.name, item.metadata.namespace)))
    }
  }
  return refs
}

async function waitFor(cli: Cli, client: Client, ref: ObjectRef, awaited: Awaited, untilMs: number): Promise<void> {
  for (;;) {
    const object = await read(client, ref, awaited.absenceAllowed)
    if (awaited.holds(object)) return
    if (cli.clock.monotonicMs() >= untilMs || cli.signal.aborted)
      throw new CliError(
        `timed out waiting for the condition on ${kinds[ref.kind].plural}/${ref.name}${lastWords(object)}`,
      )
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}

const read = (client: Client, ref: ObjectRef, absenceAllowed: boolean): Promise<MctlObject | undefined> =>
  client.get({ ref }).then(
    (reply) => reply.object,
    (error: unknown) => {
      if (absenceAllowed && isOpError(error, 'NotFound')) return undefined
      throw error
    },
  )

/** The conditions that are not met, so that a person need not ask a second time why. */
function lastWords(object: MctlObject | undefined): string {
  const conditions = (object?.status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? []
  const unmet = conditions.filter((c) => c.status !== 'True' && c.message !== '')
  return unmet.map((c) => `\n  ${c.type}=${c.status}: ${c.reason}: ${c.message}`).join('')
}
