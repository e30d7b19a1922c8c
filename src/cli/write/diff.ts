/** `mctl diff -f`: what an apply would change. Exit 0: nothing; 1: something; above: it could not be found out. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples, fileOption, namespaceOption, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { Failures, failureOf, tell } from '../errors.ts'
import { positiveInteger } from '../flags.ts'
import type { Sides } from './compare.ts'
import { liveOf, sidesOf, unifiedDiff } from './compare.ts'
import type { ManifestFlags } from './manifests.ts'
import { checkFileWords, send, wantedIn } from './manifests.ts'
import { asMember, leftOver, openSet } from './prune.ts'

interface DiffFlags extends ManifestFlags {
  readonly server?: string
  readonly prune?: boolean
  readonly applyset?: string
  readonly showManagedFields?: boolean
  readonly concurrency: string
}

/** As diff itself has it. */
const FOUND = 1
const TROUBLE = 2

export const defineDiff: Define = (command, cli, done) => {
  command
    .argument('[words...]')
    .usage('-f FILE [options]')
    .addOption(serverOption())
    .addOption(fileOption())
    .addOption(namespaceOption())
    .option('-R, --recursive', 'also the folders below')
    .option('--prune', 'also what an apply with --prune would delete')
    .option('--applyset <name>', 'the set of objects that are applied together')
    .option('--server-side', 'always on: mctl applies on the server')
    .option('--force-conflicts', 'as if fields that another manager owns were taken over')
    .option('--field-manager <name>', 'who would own the fields', 'mctl')
    .option('--show-managed-fields', 'also who owns which field')
    .option('--concurrency <n>', 'so many objects at once', '1')
    .addHelpText(
      'after',
      `\nMCTL_EXTERNAL_DIFF names a program, with its arguments, that is given two folders to compare.\n${examples('mctl diff -f manifests/demo/pipeline.yaml')}`,
    )
    .action(async (words: string[], flags: DiffFlags) => done(await diff(cli, words, flags)))
}

async function diff(cli: Cli, words: readonly string[], flags: DiffFlags): Promise<number> {
  try {
    checkFileWords(words, flags)
    const atOnce = positiveInteger('--concurrency', flags.concurrency)
    if (flags.prune && flags.applyset === undefined) throw new CliError('--prune needs --applyset NAME')
    const { sides, exitCode } = await withClient(cli, flags.server, (client) => compareAll(cli, client, flags, atOnce))
    const external = cli.env['MCTL_EXTERNAL_DIFF'] || cli.env['KUBECTL_EXTERNAL_DIFF']
    const found = external === undefined || external === '' ? printAll(cli, sides) : runExternal(cli, external, sides)
    return exitCode === 0 ? found : TROUBLE
  } catch (error) {
    const failure = failureOf(error)
    tell(cli, failure)
    return Math.max(TROUBLE, failure.exitCode)
  }
}

async function compareAll(cli: Cli, client: Client, flags: DiffFlags, atOnce: number) {
  const wanted = await wantedIn(cli, flags)
  const showManagers = flags.showManagedFields === true
  const set = flags.applyset === undefined ? undefined : await openSet(client, flags.applyset, flags.namespace)
  const failures = new Failures(cli)
  const compare = ({ manifest, file }: (typeof wanted)[number]) => {
    const comparing = async () => {
      const force = flags.forceConflicts === true
      const object = set === undefined ? manifest : await asMember(client, set, manifest, force)
      const live = await liveOf(client, manifest)
      const { object: merged } = await send(client, object, flags, { dryRun: true, file })
      return sidesOf(live, merged, showManagers)
    }
    return failures.attempt(comparing, `error when comparing "${file}"`)
  }
  // Whatever comes first, what is shown stands in the order of the files.
  const compared: (Sides | undefined)[] = []
  const left = wanted.entries()
  const compareRest = async () => {
    for (const [index, one] of left) compared[index] = await compare(one)
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, wanted.length) }, compareRest))
  const sides = compared.filter((one) => one !== undefined)
  if (set !== undefined && flags.prune) {
    const manifests = wanted.map(({ manifest }) => manifest)
    for (const object of await leftOver(client, set, manifests)) sides.push(sidesOf(object, undefined, showManagers))
  }
  return { sides, exitCode: failures.exitCode }
}

async function printAll(cli: Cli, sides: readonly Sides[]): Promise<number> {
  const text = (await Promise.all(sides.map(unifiedDiff))).join('')
  cli.terminal.out(text)
  return text === '' ? 0 : FOUND
}

/** The program is given the folders LIVE and MERGED; what it says and how it ends is what we say. */
function runExternal(cli: Cli, external: string, sides: readonly Sides[]): number {
  const folder = mkdtempSync(join(tmpdir(), 'mctl-diff-'))
  try {
    for (const side of ['LIVE', 'MERGED']) mkdirSync(join(folder, side))
    for (const { name, live, merged } of sides) {
      if (live !== '') writeFileSync(join(folder, 'LIVE', name), live)
      if (merged !== '') writeFileSync(join(folder, 'MERGED', name), merged)
    }
    const [program = '', ...args] = external.trim().split(/\s+/)
    const { status, error, stdout, stderr } = spawnSync(program, [...args, 'LIVE', 'MERGED'], {
      cwd: folder,
      encoding: 'utf8',
    })
    if (error !== undefined)
      throw new CliError(`failed to run "${external}": ${error.message}\nMCTL_EXTERNAL_DIFF names the program.`)
    cli.terminal.out(stdout)
    cli.terminal.err(stderr)
    return status ?? TROUBLE
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
