/**
 * The verbs of `mctl sync`. The server follows sources in a loop, so a request is a word on the Sync and its answer
 * stands in the status: whoever asked may die meanwhile, and so may the server.
 */
import { findCondition } from '../../api/conditions.ts'
import type { Sync, SyncChange, SyncStatus } from '../../api/sync.ts'
import {
  APPROVE_ANNOTATION,
  objectText,
  PREVIEW_ANNOTATION,
  REQUEST_ANNOTATION,
  shortRevision,
} from '../../api/sync.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError } from '../../lib/errors.ts'
import type { Client } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { historyRows } from '../describe/sync.ts'
import { parseDurationMs } from '../durations.ts'
import { render } from '../printers/render.ts'
import { formatTable } from '../printers/table.ts'

export interface SyncFlags {
  readonly server?: string
  readonly output?: string
  readonly watch?: boolean
  readonly wait?: boolean
  readonly timeout?: string
  readonly revision?: string
}

const POLL_MS = 200
/** As kubectl diff: 1 says that something differs, more that it could not be found out. */
const DIFF_FAILED = 2

const qualified = (name: string): string => `sync.mctl.dev/${name}`
const refOf = (name: string) => ({ kind: 'Sync', namespace: '', name }) as const

const find = async (client: Client, name: string): Promise<Sync> =>
  (await client.get({ ref: refOf(name) })).object as Sync

async function patch(client: Client, name: string, change: unknown): Promise<Sync> {
  const options = { fieldManager: 'mctl' }
  return (await client.patch({ ref: refOf(name), type: 'merge', patch: change, options })).object as Sync
}

const annotate = (client: Client, name: string, annotation: string, value: string) =>
  patch(client, name, { metadata: { annotations: { [annotation]: value } } })

export function now(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    refuseSuspended(await find(client, name))
    const request = cli.random.uuid()
    await annotate(client, name, REQUEST_ANNOTATION, request)
    if (flags.wait === false) return say(cli, `${qualified(name)} is looked at`)
    const sync = await answered(
      cli,
      client,
      name,
      flags.timeout ?? '5m',
      ({ status }) =>
        status?.lastHandledRequest === request && findCondition(status.conditions, 'Ready')?.status !== 'Unknown',
    )
    return tellEnd(cli, sync)
  })
}

function refuseSuspended({ metadata, spec }: Sync): void {
  if (spec.suspend)
    throw new CliError(`${qualified(metadata.name)} is suspended; \`mctl sync resume ${metadata.name}\` goes on`)
}

/** How it stands now: the applied revision, or why the newest is not applied. */
function tellEnd(cli: Cli, { metadata, status }: Sync): number {
  const ready = findCondition(status?.conditions, 'Ready')
  if (ready?.status === 'True') return say(cli, `${qualified(metadata.name)} synced: ${ready.message}`)
  throw new CliError(
    `${qualified(metadata.name)} is not synced (${ready?.reason ?? 'Unknown'}): ${ready?.message ?? ''}`,
  )
}

export function suspend(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    await patch(client, name, { spec: { suspend: true } })
    return say(cli, `${qualified(name)} suspended`)
  })
}

export function resume(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    await patch(client, name, { spec: { suspend: false } })
    return say(cli, `${qualified(name)} resumed`)
  })
}

export function approve(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    const { status } = await find(client, name)
    const blocked = status?.blocked
    if (blocked === undefined) throw new CliError(`${qualified(name)}: no deletion waits for an approval`)
    if (flags.revision !== undefined && !blocked.revision.startsWith(flags.revision))
      throw new CliError(
        `${qualified(name)}: the deletions that wait are those of ${blocked.revision}, not of ${flags.revision}`,
      )
    await annotate(client, name, APPROVE_ANNOTATION, blocked.approval)
    for (const object of blocked.objects) cli.terminal.out(`${object} may be deleted\n`)
    return say(cli, `${qualified(name)} approved: ${shortRevision(blocked.revision)} will be applied`)
  })
}

export function history(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  if (flags.output !== undefined && !['wide', 'json', 'yaml'].includes(flags.output))
    throw new CliError(
      `unable to match a printer suitable for the output format "${flags.output}", allowed formats are: wide,json,yaml`,
    )
  return withClient(cli, flags.server, async (client) => {
    const { status } = await find(client, name)
    const tries = status?.history ?? []
    if (flags.output === 'json' || flags.output === 'yaml') cli.terminal.out(render(tries, flags.output))
    else if (tries.length === 0) cli.terminal.err(`${qualified(name)} has tried nothing yet\n`)
    else if (flags.output === 'wide') cli.terminal.out(wideHistory(tries))
    else
      cli.terminal.out(formatTable(['TIME', 'REVISION', 'RESULT', 'CHANGES', 'AUTHOR', 'SUBJECT'], historyRows(tries)))
    return 0
  })
}

const wideHistory = (tries: NonNullable<SyncStatus['history']>): string =>
  tries
    .map(({ time, revision, result, message, changes = [], more = 0, durationMs, author, subject }) =>
      [
        `${time} ${revision} ${result}${durationMs === undefined ? '' : ` in ${(durationMs / 1000).toFixed(1)} s`}`,
        ...(author === undefined ? [] : [`  ${author}: ${subject ?? ''}`]),
        ...(message === undefined ? [] : [`  ${message}`]),
        ...changeLines(changes, more).map((line) => `  ${line}`),
        '',
      ].join('\n'),
    )
    .join('')

export function diff(cli: Cli, name: string, flags: SyncFlags): Promise<number> {
  return withClient(cli, flags.server, async (client) => {
    const request = cli.random.uuid()
    await find(client, name)
    await annotate(client, name, PREVIEW_ANNOTATION, request)
    const { status } = await answered(
      cli,
      client,
      name,
      flags.timeout ?? '1m',
      (sync) => sync.status?.preview?.request === request,
    )
    const { revision, changes, more = 0, message } = status?.preview ?? { changes: [] }
    if (revision === undefined) throw new CliError(`${qualified(name)}: ${message ?? 'nothing was read'}`, DIFF_FAILED)
    for (const line of changeLines(changes, more)) cli.terminal.out(`${line}\n`)
    if (message !== undefined) cli.terminal.err(`${message}\n`)
    return changes.length === 0 ? 0 : 1
  })
}

const signs: Readonly<Record<SyncChange['action'], string>> = {
  Create: '+',
  Configure: '~',
  Prune: '-',
  Release: '○',
  Keep: '=',
}
const words: Readonly<Record<SyncChange['action'], string>> = {
  Create: '',
  Configure: '',
  Prune: ' (deleted)',
  Release: ' (stays, and is followed no more)',
  Keep: ' (as it is)',
}

/** `~ ModelDeployment default/chat`, its fields below it. */
function changeLines(changes: readonly SyncChange[], more: number): readonly string[] {
  const lines = changes.flatMap((change) => [
    `${signs[change.action]} ${objectText(change)}${words[change.action]}`,
    ...(change.fields ?? []).map((field) => `    ${field}`),
  ])
  return more === 0 ? lines : [...lines, `… and ${more} more`]
}

/** The Sync once `holds`; CliError when it does not in time, with what it says meanwhile. */
async function answered(
  cli: Cli,
  client: Client,
  name: string,
  timeout: string,
  holds: (sync: Sync) => boolean,
): Promise<Sync> {
  const untilMs = cli.clock.monotonicMs() + parseDurationMs(timeout)
  for (;;) {
    const sync = await find(client, name)
    if (holds(sync)) return sync
    if (cli.signal.aborted) throw new OpError('Cancelled', 'interrupted')
    if (cli.clock.monotonicMs() >= untilMs) {
      const ready = findCondition(sync.status?.conditions, 'Ready')
      throw new CliError(
        `timed out waiting for ${qualified(name)}: ${ready === undefined ? 'the server has not looked at it' : `${ready.reason}: ${ready.message}`}`,
      )
    }
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}

function say(cli: Cli, text: string): number {
  cli.terminal.out(`${text}\n`)
  return 0
}
