/**
 * `npm run demo`: the main job on a real model, told step by step: three nodes, a model cut in two, an answer, a rank
 * killed and back, a refusal in numbers. Each step is the command that a user would type; nothing is staged.
 */
import { join } from 'node:path'
import { packageRoot } from '../lib/nodeargv.ts'
import { systemClock } from '../lib/clock.ts'
import { connect } from '../rpc/grpcclient.ts'
import { openFleet } from './demofleet.ts'
import type { DemoStage } from './demostage.ts'
import { openStage } from './demostage.ts'
import { watchSignals } from './signals.ts'

const QUESTION = 'What is the capital of France?'
const root = packageRoot(import.meta.url)
const manifest = (name: string) => join('manifests', 'demo', name)

async function main(): Promise<number> {
  const signals = watchSignals()
  const stays = process.stdout.isTTY === true && !process.argv.includes('--once')
  process.chdir(root)
  const stage = await openStage(signals)
  const client = connect(stage.server, { user: 'demo' })
  try {
    await play(stage, client)
    if (stays && !signals.first.aborted) await rest(stage, signals.first)
    return 0
  } catch (error) {
    if (signals.first.aborted) return 130
    process.stderr.write(
      `\nthe demo stopped: ${error instanceof Error ? error.message : String(error)}\n${stage.whereLogsAre}\n`,
    )
    return 1
  } finally {
    client.close()
    await stage.close()
  }
}

async function play(stage: DemoStage, client: ReturnType<typeof connect>): Promise<void> {
  stage.title('Three nodes', 'Each is a real agent; on a shelf each would be a Mac mini of its own.')
  await stage.mctl('get', 'nodes')

  stage.title('One model, cut in two', 'A pipeline of 2: the first node holds 20 of the 30 layers, the second 10.')
  await stage.mctl('apply', '-f', manifest('pipeline.yaml'))
  await stage.follow(client, 'smollm2-pipeline')
  await stage.mctl('get', 'shards')
  await stage.mctl('describe', 'sg', 'smollm2-pipeline-0', '--no-show-events')

  stage.title('Ask it', 'Through the gateway: one OpenAI-compatible address for every model.')
  await ask(stage, 'smollm2-pipeline')

  stage.title(
    'Kill one half',
    'SIGKILL for rank 1. A ring cannot take a rank back: the whole group comes back as the next epoch.',
  )
  await stage.killRank(client, 'smollm2-pipeline-0', 1)
  await stage.follow(client, 'smollm2-pipeline')
  await ask(stage, 'smollm2-pipeline')
  await stage.mctl('events', '--for', 'sg/smollm2-pipeline-0')

  stage.title(
    'A model that cannot fit',
    'What crashes a server elsewhere is an answer here, before anything is started.',
  )
  await stage.mctl('apply', '-f', manifest('too-big.yaml'))
  await stage.mctl('wait', 'md/too-big', '--for=condition=Scheduled=False')
  await stage.mctl('describe', 'md', 'too-big', '--no-show-events')
  await stage.mctl('delete', '-f', manifest('too-big.yaml'))
  await stage.mctlMayFail('plan', '-f', manifest('too-big.yaml'))

  stage.title('The same model otherwise', 'Two whole copies; the greedy answer is the same, token for token.')
  await stage.mctl('delete', 'md/smollm2-pipeline')
  await stage.mctl('apply', '-f', manifest('data.yaml'))
  await stage.follow(client, 'smollm2-data')
  await ask(stage, 'smollm2-data')
  await stage.mctl('get', 'md,shards')
  await stage.mctl('delete', 'md/smollm2-data')

  await followRepository(stage, client)
  await stage.mctl('delete', 'md/smollm2-tensor')
  await stage.mctl('get', 'nodes')
}

/** The last deployment comes by a commit: the cluster follows a repository. By hand where there is no git. */
async function followRepository(stage: DemoStage, client: ReturnType<typeof connect>): Promise<void> {
  const fleet = openFleet()
  const answers = async () => {
    await stage.follow(client, 'smollm2-tensor')
    await ask(stage, 'smollm2-tensor')
  }
  if (fleet === undefined) {
    await stage.mctl('apply', '-f', manifest('tensor.yaml'))
    return answers()
  }
  try {
    stage.title(
      'A repository that the cluster follows',
      'A file changes in git, nobody says apply, and the cluster changes.',
    )
    await stage.mctl('apply', '-f', fleet.syncFile)
    await stage.mctl('sync', 'now', 'fleet')
    fleet.commit(manifest('tensor.yaml'), 'Serve SmolLM2 on two tensor ranks')
    await stage.arrives(client, 'smollm2-tensor')
    await stage.mctl('get', 'syncs,md')
    await answers()
    await stage.mctl('sync', 'history', 'fleet')
    await stage.mctl('delete', 'sync/fleet')
  } finally {
    fleet.close()
  }
}

const ask = (stage: DemoStage, model: string) =>
  stage.mctl('chat', model, QUESTION, '--system', 'Answer in one sentence.', '--temperature', '0', '--max-tokens', '16')

async function rest(stage: DemoStage, signal: AbortSignal): Promise<void> {
  stage.title('Your turn', 'The cluster stays up until Ctrl-C. In another terminal, in this folder:')
  process.stdout.write(
    [
      `  export MCTL_SERVER=${stage.server}`,
      '  npx mctl apply -f manifests/demo/pipeline.yaml --wait',
      '  npx mctl chat smollm2-pipeline',
      '  npx mctl get shards -w',
      '  npx mctl plan -f manifests/experiments/qwen-32b.yaml --nodes manifests/experiments/nodes.yaml',
      '',
    ].join('\n'),
  )
  await new Promise<void>((resolve) => {
    // Holds the process until a signal comes.
    const hold = () => systemClock.after(60_000, hold)
    const timer = hold()
    signal.addEventListener('abort', () => (timer.cancel(), resolve()), { once: true })
  })
}

process.exit(await main())
