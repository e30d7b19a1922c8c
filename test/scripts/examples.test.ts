/** Every example of every help text, run against a cluster: what we tell people to type works. */
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { StoryWorld, wordsOf } from '../support/stories.ts'
import { deploymentYaml } from '../support/gitrepo.ts'
import { tinyShape } from '../support/cluster.ts'

const root = join(import.meta.dirname, '../..')
let world: StoryWorld

const pipeline = 'manifests/demo/pipeline.yaml'

/** The cluster that the examples speak of: the demo's pipeline runs on it, with the engine that the simulator has. */
beforeAll(async () => {
  world = await StoryWorld.start({ nodes: ['mini-1', 'mini-2'] })
  cpSync(join(root, 'manifests'), join(world.dir, 'manifests'), { recursive: true })
  const text = readFileSync(join(root, pipeline), 'utf8')
  const played = text.replace('name: mlx', 'name: fake').replace(/model: \{[^}]*\}/, 'model: { name: played }')
  world.write(pipeline, played)
  await world.cluster.apply('Model', 'played', { shape: { ...tinyShape, layers: 30 } })
  await serve()
  world.repo('fleet').put({ 'chat.yaml': deploymentYaml('chat', { model: { name: 'played' }, replicas: 0 }) })
  const source = `source: { git: { url: "${world.repo('fleet').url}" } }`
  world.write(
    'sync.yaml',
    `apiVersion: mctl.dev/v1alpha1\nkind: Sync\nmetadata: { name: studio }\nspec: { ${source} }\n`,
  )
  expect(await run(['apply', '-f', 'sync.yaml'])).toMatchObject({ exitCode: 0 })
}, 120_000)

afterAll(() => world.stop(), 60_000)

const serve = async () => expect(await run(['apply', '-f', pipeline, '--wait'])).toMatchObject({ exitCode: 0, err: '' })

async function run(argv: readonly string[]) {
  const { parts, exitCode } = await world.run(argv)
  const text = (stream: string) => parts.map((part) => (part.stream === stream ? part.text : '')).join('')
  return { exitCode, out: text('out'), err: text('err') }
}

const indented = (text: string, title: RegExp): readonly string[] =>
  (text.split(title)[1] ?? '').split('\n').flatMap((line) => /^ {2}(\S.*)$/.exec(line)?.[1] ?? [])

const commands = async () =>
  indented((await run(['--help'])).out.split('Examples:')[0] ?? '', /Commands:\n/).map(
    (line) => line.split(' ')[0] ?? '',
  )

const liveUnknown = /^nodes mini-1, mini-2 are simulated: .*\nno gateway has told/

/** Examples whose end is not success: why, as it must be told. */
const otherEnds: Readonly<Record<string, RegExp>> = {
  // The largest experiment is the one that must be refused.
  'mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml': /^$/,
  'mctl wait md --all --for=delete': /timed out waiting for the condition on modeldeployments\/smollm2-pipeline/,
  // The simulator's cluster has no identities: everybody on its machine may do everything.
  'mctl join-token create': /has no identities yet: it serves this machine only/,
  'mctl join-token create --node mini-2 --ttl 10m': /has no identities yet/,
  'mctl user create ann --role operator': /has no identities, so everybody on this machine is admin/,
  'mctl user delete ann': /"ann" not found/,
  'mctl node reset mini-2': /has no identities, so its nodes hold no certificates/,
  'mctl authority get': /has no identities, so no authority/,
  'mctl authority rotate': /has no identities/,
  'mctl authority retire': /has no identities/,
  'mctl config renew': /holds no certificate: its server knows nobody by one/,
  // The simulator has no gateway.
  // Nor one that tells of its traffic, and its nodes are simulated.
  'mctl top nodes': liveUnknown,
  'mctl top nodes --sort-by=used': liveUnknown,
  'mctl top models': /^no gateway has told/,
  'mctl chat smollm2 "What is the capital of France?"': /the server runs no gateway/,
}

test('every command has an example, and every example does what it says', async () => {
  const names = await commands()
  expect(names).toEqual(expect.arrayContaining(['apply', 'get', 'delete', 'logs', 'wait', 'plan', 'dev', 'server']))
  for (const name of names) {
    const help = await run([name, '--help'])
    const examples = indented(help.out, /Examples?:\n/)
    expect(examples, `mctl ${name} --help`).not.toEqual([])
    for (const example of examples) await follow(example)
  }
})

/** What a command that did what it says may tell beside it. */
const harmless =
  /^(waiting until .*\n|No (events|links|resources) found.*\n|Edit cancelled, no changes made\.\n|`mctl .*` makes it the current one\.\n|.*(is not shown again|lets it in again|has the old address|server restore [^`]*`|`mctl agent status` says how it does|here is nothing to (set|undo))\.\n)?$/

async function follow(example: string): Promise<void> {
  const argv = wordsOf(example)
  expect(argv[0], example).toBe('mctl')
  if (argv.some((word) => word === '-f') && argv[1] === 'logs') return followBeside(argv.slice(1))
  const { exitCode, err } = await run(argv.slice(1))
  const wanted = otherEnds[example]
  expect(err, example).toMatch(wanted ?? harmless)
  expect(exitCode, example).toBe(wanted === undefined || argv[1] === 'top' ? 0 : 1)
  if (['apply', 'delete', 'uncordon'].includes(argv[1] ?? '')) await serve()
}

async function followBeside(argv: readonly string[]): Promise<void> {
  await world.runBeside(argv)
  const { parts, exitCode } = await world.interrupt()
  expect(parts.map((part) => part.text).join('')).toContain('rank 0 is ready')
  expect(exitCode).toBe(0)
}
