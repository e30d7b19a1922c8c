/** `mctl delete`: by name or by file; by default it ends only when the processes behind the objects are gone. */
import { kinds, qualifiedName } from '../api/kinds.ts'
import { sleep } from '../lib/clock.ts'
import { isOpError } from '../lib/errors.ts'
import type { Client, ObjectRef } from '../rpc/messages.ts'
import type { Cli } from './context.ts'
import { CliError, kindOf, refOf, targetsOf, withClient } from './context.ts'
import { parseDurationMs } from './durations.ts'
import { readManifests } from './files.ts'

export interface DeleteFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly all?: boolean
  readonly wait?: boolean
  readonly timeout?: string
  readonly cascade?: string
  readonly ignoreNotFound?: boolean
  readonly dryRun?: string
}

const POLL_MS = 100
const cascades = { background: 'Background', foreground: 'Foreground', orphan: 'Orphan' } as const

export async function deleteObjects(cli: Cli, words: readonly string[], flags: DeleteFlags): Promise<number> {
  const cascade = cascades[(flags.cascade ?? 'background') as keyof typeof cascades]
  if (cascade === undefined)
    throw new CliError(`invalid cascade value (${flags.cascade}). Must be "background", "foreground", or "orphan"`)
  return withClient(cli, flags.server, async (client) => {
    const refs = await refsOf(cli, client, words, flags)
    const deleted: ObjectRef[] = []
    for (const ref of refs) {
      const dryRun = flags.dryRun !== undefined && flags.dryRun !== 'none'
      const reply = await client.delete({ ref, propagation: cascade, dryRun }).catch((error: unknown) => {
        if (flags.ignoreNotFound && isOpError(error, 'NotFound')) return undefined
        throw error
      })
      if (reply === undefined) continue
      const where = kinds[ref.kind].namespaced ? ` from ${ref.namespace} namespace` : ''
      cli.terminal.out(
        `${qualifiedName(ref.kind, ref.name).replace('/', ' "')}" deleted${where}${dryRun ? ' (server dry run)' : ''}\n`,
      )
      if (!reply.gone && !dryRun) deleted.push(ref)
    }
    return flags.wait === false ? 0 : waitUntilGone(cli, client, deleted, flags)
  })
}

async function refsOf(
  cli: Cli,
  client: Client,
  words: readonly string[],
  flags: DeleteFlags,
): Promise<readonly ObjectRef[]> {
  if (flags.filename !== undefined) {
    const manifests = await readManifests(cli, flags.filename, flags.recursive === true)
    return manifests.map(({ manifest }) =>
      refOf(kindOf(manifest.kind), manifest.metadata.name, manifest.metadata.namespace ?? flags.namespace),
    )
  }
  const targets = targetsOf(words)
  const refs: ObjectRef[] = []
  for (const { kind, name } of targets) {
    if (name !== undefined) refs.push(refOf(kind, name, flags.namespace))
    else if (!flags.all)
      throw new CliError('resource(s) were provided, but no name was specified; use --all for all of them')
    else {
      const namespace = refOf(kind, '', flags.namespace).namespace
      const { items } = await client.list({ kind, ...(namespace === '' ? {} : { namespace }) })
      refs.push(...items.map((item) => refOf(kind, item.metadata.name, item.metadata.namespace)))
    }
  }
  return refs
}

/** Waits until each object is gone; says on stderr what it waits for when that takes longer than a glance. */
async function waitUntilGone(
  cli: Cli,
  client: Client,
  refs: readonly ObjectRef[],
  flags: DeleteFlags,
): Promise<number> {
  const startMs = cli.clock.monotonicMs()
  const timeoutMs = flags.timeout === undefined ? 0 : parseDurationMs(flags.timeout)
  let told = false
  for (const ref of refs) {
    while (await exists(client, ref)) {
      const waitedMs = cli.clock.monotonicMs() - startMs
      if (timeoutMs > 0 && waitedMs > timeoutMs)
        throw new CliError(`timed out waiting for the condition on ${kinds[ref.kind].plural}/${ref.name}`)
      if (cli.signal.aborted) return 1
      if (!told && waitedMs > 1000) cli.terminal.err(`waiting until the processes of ${ref.name} have stopped…\n`)
      told = told || waitedMs > 1000
      await sleep(cli.clock, POLL_MS, cli.signal)
    }
  }
  return 0
}

const exists = (client: Client, ref: ObjectRef): Promise<boolean> =>
  client.get({ ref }).then(
    () => true,
    (error: unknown) => {
      if (isOpError(error, 'NotFound')) return false
      throw error
    },
  )
