/** `mctl wait --for=condition=Ready md/x`: until it holds, or the timeout. A condition of an older generation does not count. */
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { Condition, MctlObject } from '../../api/meta.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { collect, examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { clauses } from '../describe/text.ts'
import { Failures } from '../errors.ts'
import type { TargetFlags } from '../targets.ts'
import { planHint } from '../plan/hint.ts'
import { refsOf } from '../targets.ts'

export interface WaitFlags extends TargetFlags {
  readonly server?: string
  readonly for?: string | readonly string[]
  readonly timeout?: string
  /** Not an option of the command: reasons of Ready that waiting longer will not help. */
  readonly hopeless?: readonly string[]
}

interface Awaited {
  /** Whether the object (undefined: absent) satisfies what is waited for. */
  readonly holds: (object: MctlObject | undefined) => boolean
  /** Absence of the object is no error. */
  readonly absenceAllowed: boolean
}
type Patience = Awaited & { readonly hopeless: readonly string[] }

const POLL_MS = 200
const WEEK_MS = 7 * 86_400_000

export const defineWait: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('(TYPE NAME... | TYPE/NAME... | TYPE --all | -f FILE) --for=WHAT... [options]')
    .addOption(serverOption())
    .addOption(namespaceOption())
    .option(
      '--for <what>',
      'condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete; several: all of them',
      collect,
    )
    .option('--timeout <duration>', '0: look once; negative: a week', '30s')
    .option('--all', 'all objects of the type')
    .option('-l, --selector <labels>', 'only objects with these labels')
    .option('--field-selector <fields>', 'only objects with these fields, e.g. spec.nodeName=mini-1')
    .addOption(fileOption())
    .option('-R, --recursive', 'also the folders below')
    .addHelpText(
      'after',
      examples(
        'mctl wait md/smollm2-pipeline --for=condition=Ready --timeout=5m',
        'mctl wait node --all --for=condition=Ready',
        'mctl wait md/smollm2-pipeline --for=jsonpath={.status.readyReplicas}=1',
        'mctl wait md --all --for=delete',
      ),
    )
    .action(async (words: string[], flags: WaitFlags) => done(await wait(cli, words, flags)))
}

/** All of them share one timeout; those that do not make it are told one by one. */
export async function wait(cli: Cli, words: readonly string[], flags: WaitFlags): Promise<number> {
  const awaited = { ...(await parseAll(flags.for)), hopeless: flags.hopeless ?? [] }
  const timeoutMs = parseDurationMs(flags.timeout ?? '30s')
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, 'wait', flags)
    if (refs.length === 0) throw new CliError('no matching resources found')
    const untilMs = cli.clock.monotonicMs() + (timeoutMs < 0 ? WEEK_MS : timeoutMs)
    const failures = new Failures(cli)
    for (const ref of refs) {
      const met = await failures.attempt(() => waitFor(cli, client, ref, awaited, untilMs))
      if (met) cli.terminal.out(`${qualifiedName(ref.kind, ref.name)} condition met\n`)
    }
    return failures.exitCode
  })
}

/** Several are awaited together; where one of them may find nothing, so may the others, and go on waiting. */
async function parseAll(texts: string | readonly string[] | undefined): Promise<Awaited> {
  if (texts === undefined) throw new CliError('--for is required, for example --for=condition=Ready or --for=delete')
  const all = await Promise.all([texts].flat().map(parseFor))
  return {
    holds: (object) => all.every(({ holds }) => holds(object)),
    absenceAllowed: all.some(({ absenceAllowed }) => absenceAllowed),
  }
}

async function parseFor(text: string): Promise<Awaited> {
  if (text.toLowerCase() === 'delete') return { holds: (object) => object === undefined, absenceAllowed: true }
  if (text.toLowerCase() === 'create') return { holds: (object) => object !== undefined, absenceAllowed: true }
  const path = /^jsonpath=(?:(\{.*\})|([^={}]+))(?:=(.*))?$/s.exec(text)
  if (path !== null) return pathFor(path[1] ?? path[2] ?? '', path[3])
  const condition = /^condition=([^=]+)(?:=(.+))?$/.exec(text)
  if (condition === null)
    throw new CliError(
      `unrecognized condition: "${text}"; use condition=NAME[=VALUE], jsonpath=PATH[=VALUE], create or delete`,
    )
  const [, type = '', value = 'True'] = condition
  return { holds: (object) => object !== undefined && conditionHolds(object, type, value), absenceAllowed: false }
}

/** Some value at the path, or one that reads so. */
async function pathFor(path: string, wanted: string | undefined): Promise<Awaited> {
  const { fieldPath, valueText } = await import('../printers/jsonpath.ts')
  const find = fieldPath(path)
  const isWanted = (value: unknown) =>
    wanted === undefined || valueText(value) === wanted.replace(/^(["'])(.*)\1$/s, '$2')
  return { holds: (object) => object !== undefined && find(object).some(isWanted), absenceAllowed: false }
}

function conditionHolds(object: MctlObject, type: string, value: string): boolean {
  const status = object.status as { conditions?: readonly Condition[]; observedGeneration?: number } | undefined
  const condition = status?.conditions?.find((c) => c.type.toLowerCase() === type.toLowerCase())
  const observed = condition?.observedGeneration ?? status?.observedGeneration
  if (observed !== undefined && observed < object.metadata.generation) return false
  return condition?.status.toLowerCase() === value.toLowerCase()
}

async function waitFor(cli: Cli, client: Client, ref: ObjectRef, awaited: Patience, untilMs: number): Promise<true> {
  for (;;) {
    const object = await read(client, ref, awaited.absenceAllowed)
    if (awaited.holds(object)) return true
    if (cli.signal.aborted) throw new OpError('Cancelled', `wait for ${ref.name}: interrupted`)
    const hopeless = awaited.hopeless.find((reason) => conditionReason(object, 'Ready') === reason)
    if (hopeless !== undefined)
      throw new CliError(
        `${kinds[ref.kind].plural}/${ref.name} will not become ready by itself (${hopeless})${lastWords(object)}`,
      )
    if (cli.clock.monotonicMs() >= untilMs)
      throw new CliError(
        `timed out waiting for the condition on ${kinds[ref.kind].plural}/${ref.name}${lastWords(object)}`,
      )
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}

/** Of a condition that counts for the object's present generation. */
function conditionReason(object: MctlObject | undefined, type: string): string | undefined {
  if (object === undefined || !conditionHolds(object, type, 'False')) return undefined
  const { conditions = [] } = (object.status ?? {}) as { conditions?: readonly Condition[] }
  return conditions.find((c) => c.type === type)?.reason
}

const read = (client: Client, ref: ObjectRef, absenceAllowed: boolean): Promise<MctlObject | undefined> =>
  client.get({ ref }).then(
    (reply) => reply.object,
    (error: unknown) => {
      if (absenceAllowed && isOpError(error, 'NotFound')) return undefined
      throw error
    },
  )

/** The conditions that are not met, so that a person need not ask a second time why; what one has said, no other repeats. */
function lastWords(object: MctlObject | undefined): string {
  const conditions = (object?.status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? []
  const told: string[] = []
  const lines: string[] = []
  for (const { type, status, reason, message } of conditions) {
    if (status === 'True' || message === '' || told.some((earlier) => message.includes(earlier))) continue
    told.push(message)
    const [first = '', ...others] = clauses(message)
    lines.push(`  ${type}=${status}: ${reason}: ${first}`, ...others.map((clause) => `    ${clause}`))
  }
  const hint = planHint(object)
  return [...lines, ...(hint === undefined ? [] : [hint])].map((line) => `\n${line}`).join('')
}
