"""PTX instructions as C++ statements. Each function takes the Translator `t`, the parts of the instruction's
name and its operands, and emits. Names of functions in the emitted code are those of ptx_runtime.h."""
import re

from ptx_module import CPP, SIZES, split_operands


class NotTranslated(Exception):
    """The instruction, or a variant of it, is not known."""


CPP_UNSIGNED = {1: 'uint8_t', 2: 'uint16_t', 4: 'uint32_t', 8: 'uint64_t'}
# What one register holds: not a predicate, not two halves of a word.
SCALARS = [name for name in CPP if name != 'pred' and not name.endswith('x2')]
COMPARISONS = {'lt': '<', 'le': '<=', 'gt': '>', 'ge': '>=', 'eq': '==', 'ne': '!=',
               'lo': '<', 'ls': '<=', 'hi': '>', 'hs': '>='}
OPERATORS = {'add': '+', 'sub': '-', 'and': '&', 'or': '|', 'xor': '^'}
WIDE = {'s32': 's64', 'u32': 'u64', 's16': 's32', 'u16': 'u32'}


def is_float(type_name):
    return type_name in ('f32', 'f64')


def unsigned(type_name):
    return type_name if is_float(type_name) else 'u' + str(8 * SIZES[type_name])


def elements(operand):
    """'{%r1, %r2}' to its registers; a register to itself."""
    return [part.strip() for part in operand.strip('{} ').split(',')] if operand.startswith('{') else [operand]


def all_values(t, operands, kind):
    """The arguments of a call."""
    return ', '.join(t.value(operand, kind) for operand in operands)


def space_of(parts):
    for part in parts:
        if part in ('global', 'param', 'local', 'const') or part.startswith('shared'):
            return part.split('::')[0]
    return 'generic'


# --- memory ---
def access(t, parts, address, count):
    """Declares `q`, a pointer to `count` elements at the address, checked for alignment."""
    space, kind = space_of(parts), parts[-1]
    where = t.memory(address, space)
    function = 'shared_at' if space == 'shared' else 'memory_at'
    t.emit(f'{{ auto* q = {function}<{CPP[kind]}, {count}>({where});')


def load(t, parts, operands):
    registers = elements(operands[0])
    access(t, parts, operands[1], len(registers))
    for index, register in enumerate(registers):
        t.assign(register, f'q[{index}]', parts[-1])
    t.emit('}')


def store(t, parts, operands):
    registers = elements(operands[1])
    access(t, parts, operands[0], len(registers))
    for index, register in enumerate(registers):
        t.emit(f'q[{index}] = {t.value(register, parts[-1])};')
    t.emit('}')


def move(t, parts, operands):
    kind = parts[-1]
    if operands[0].startswith('{'):
        registers = elements(operands[0])
        bits = 8 * SIZES[kind] // len(registers)
        for index, register in enumerate(registers):
            whole = t.value(operands[1], unsigned_bits(kind))
            t.assign(register, f'{CPP_UNSIGNED[bits // 8]}({whole} >> {index * bits})', f'b{bits}')
    elif operands[1].startswith('{'):
        registers = elements(operands[1])
        bits = 8 * SIZES[kind] // len(registers)
        whole = CPP_UNSIGNED[SIZES[kind]]
        t.assign(operands[0], ' | '.join(f'{whole}({t.value(register, f"b{bits}")}) << {index * bits}'
                                         for index, register in enumerate(registers)), unsigned_bits(kind))
    else:
        t.assign(operands[0], t.value(operands[1], kind), kind)


def unsigned_bits(kind):
    return 'b' + str(8 * SIZES[kind])


def convert_address(t, parts, operands):
    """cvta: generic addresses are those of the host; shared ones have 32 bits of their own."""
    space = space_of(parts)
    if space == 'shared' and 'to' in parts:
        t.assign(operands[0], f'shared_address_of({t.value(operands[1], "u64")})', parts[-1])
    elif space == 'shared':
        t.assign(operands[0], f'address(shared_pointer({t.value(operands[1], "u32")}))', parts[-1])
    else:
        t.assign(operands[0], t.value(operands[1], parts[-1]), parts[-1])


def atomic(t, parts, operands):
    returns = parts[0] == 'atom'
    kind = parts[-1]
    operation = next(part for part in parts if part in ATOMICS)
    if is_float(kind):
        raise NotTranslated
    space = space_of(parts)
    target, values = (operands[1], operands[2:]) if returns else (operands[0], operands[1:])
    function = 'shared_at' if space == 'shared' else 'memory_at'
    pointer = f'{function}<{ATOMIC_TYPES[kind]}, 1>({t.memory(target, space)})'
    call = f'{ATOMICS[operation]}({pointer}, {all_values(t, values, kind)})'
    if returns:
        t.assign(operands[0], call, kind)
    else:
        t.emit(call + ';')


ATOMICS = {'add': 'atomicAdd', 'min': 'atomicMin', 'max': 'atomicMax', 'and': 'atomicAnd', 'or': 'atomicOr',
           'exch': 'atomicExch', 'cas': 'atomicCAS', 'inc': 'atomicInc'}
ATOMIC_TYPES = {'s32': 'int', 'u32': 'unsigned', 'b32': 'unsigned', 'u64': 'unsigned long long',
                'b64': 'unsigned long long'}


# --- arithmetic ---
def binary(t, parts, operands):
    kind, operator = parts[-1], OPERATORS[parts[0]]
    if kind not in SCALARS and kind != 'pred':
        raise NotTranslated  # two halves of a word
    same = kind if kind == 'pred' else unsigned(kind)
    text = f'{t.value(operands[1], same)} {operator} {t.value(operands[2], same)}'
    if kind == 'pred':
        t.assign(operands[0], f'({text}) != 0', kind)
    else:
        t.assign(operands[0], f'saturated({text})' if 'sat' in parts else f'{CPP[same]}({text})', same)


def multiply(t, parts, operands):
    kind, adds = parts[-1], parts[0] == 'mad'
    if is_float(kind):
        if adds:
            return fused(t, parts, operands)
        return t.assign(operands[0], f'{t.value(operands[1], kind)} * {t.value(operands[2], kind)}', kind)
    addend = None
    if 'wide' in parts:
        result = WIDE[kind]
        text = ' * '.join(f'{CPP[result]}({t.value(operand, kind)})' for operand in operands[1:3])
    elif 'lo' in parts:
        result = unsigned(kind)
        text = f'{t.value(operands[1], result)} * {t.value(operands[2], result)}'
        if SIZES[result] == 2:
            text = f'uint16_t(uint32_t({t.value(operands[1], result)}) * {t.value(operands[2], result)})'
    else:
        result = kind
        text = f'high_product({t.value(operands[1], kind)}, {t.value(operands[2], kind)})'
    if adds:
        addend = t.value(operands[3], unsigned(result))
        text = f'{CPP[unsigned(result)]}({text}) + {addend}'
    t.assign(operands[0], text, unsigned(result))


def fused(t, parts, operands):
    kind = parts[-1]
    if not is_float(kind):
        raise NotTranslated
    function = {'rm': 'fused_down', 'rp': 'fused_up'}.get(parts[1], 'std::fma')
    text = f'{function}({all_values(t, operands[1:], kind)})'
    t.assign(operands[0], f'saturated({text})' if 'sat' in parts else text, kind)


def divide(t, parts, operands):
    kind = parts[-1]
    operator = '%' if parts[0] == 'rem' else '/'
    t.assign(operands[0], f'{t.value(operands[1], kind)} {operator} {t.value(operands[2], kind)}', kind)


def call_of(function):
    """An instruction that is one function of its operands."""
    def emit(t, parts, operands):
        kind = parts[-1]
        if kind not in SCALARS:
            raise NotTranslated
        t.assign(operands[0], f'{function}({all_values(t, operands[1:], kind)})', kind)
    return emit


def smaller_or_larger(t, parts, operands):
    kind = parts[-1]
    function = ('std::f' if is_float(kind) else 'std::') + parts[0]
    t.assign(operands[0], f'{function}({all_values(t, operands[1:], kind)})', kind)


def negate(t, parts, operands):
    kind = parts[-1]
    t.assign(operands[0], f'{CPP[unsigned(kind)]}(-{t.value(operands[1], unsigned(kind))})', unsigned(kind))


def absolute(t, parts, operands):
    kind = parts[-1]
    t.assign(operands[0], f'std::abs({t.value(operands[1], kind)})', kind)


def complement(t, parts, operands):
    kind = parts[-1]
    if kind == 'pred':
        return t.assign(operands[0], f'!{t.value(operands[1], kind)}', kind)
    same = unsigned(kind)
    return t.assign(operands[0], f'{CPP[same]}(~{t.value(operands[1], same)})', same)


def copy_sign(t, parts, operands):
    kind = parts[-1]  # the sign of the first, the rest of the second
    t.assign(operands[0], f'std::copysign({t.value(operands[2], kind)}, {t.value(operands[1], kind)})', kind)


def shift(t, parts, operands):
    kind = parts[-1] if parts[0] == 'shr' and parts[-1][0] == 's' else unsigned(parts[-1])
    function = 'shift_left' if parts[0] == 'shl' else 'shift_right'
    t.assign(operands[0], f'{function}({t.value(operands[1], kind)}, {t.value(operands[2], "u32")})', kind)


def bits_call(function, types):
    """A function of 32-bit words and the like, whatever the instruction's type."""
    def emit(t, parts, operands):
        kind = parts[-1]
        arguments = [t.value(operand, (kind if name == 'own' else unsigned(kind) if name == 'bits' else name))
                     for operand, name in zip(operands[1:], types)]
        result = 'u32' if function in ('std::popcount', 'std::countl_zero') else kind
        t.assign(operands[0], f'{function}({", ".join(arguments)})', result)
    return emit


def find_bit(t, parts, operands):
    text = f'highest_bit({t.value(operands[1], parts[-1])})'
    bits = 8 * SIZES[parts[-1]]
    t.assign(operands[0], f'shift_amount<{bits}>({text})' if 'shiftamt' in parts else text, 'u32')


def funnel_shift(t, parts, operands):
    function = '__funnelshift_l' if parts[1] == 'l' else '__funnelshift_r'
    if parts[2] != 'wrap':
        raise NotTranslated
    t.assign(operands[0], f'{function}({all_values(t, operands[1:], "u32")})', 'b32')


def permute_bytes(t, parts, operands):
    if len(parts) > 2:
        raise NotTranslated
    t.assign(operands[0], f'permute_bytes({all_values(t, operands[1:], "u32")})', 'b32')


def compare(t, parts, operands):
    kind, how = parts[-1], parts[1]
    left, right = t.value(operands[1], kind), t.value(operands[2], kind)
    unordered = f'is_unordered({left}, {right})'
    if is_float(kind) and how == 'nan':
        text = unordered
    elif is_float(kind) and how == 'num':
        text = f'!{unordered}'
    elif is_float(kind) and how.endswith('u') and how[:-1] in COMPARISONS:
        text = f'({unordered} || {left} {COMPARISONS[how[:-1]]} {right})'
    elif is_float(kind) and how == 'ne':
        text = f'(!{unordered} && {left} != {right})'
    else:
        text = f'({left} {COMPARISONS[how]} {right})'
    targets = operands[0].split('|')
    for target, result in zip(targets, (text, '!' + text)):
        if parts[2] in ('and', 'or', 'xor'):
            result = f'({result} {OPERATORS[parts[2]]} {t.value(operands[3], "pred")}) != 0'
        t.assign(target, result, 'pred')


def select(t, parts, operands):
    kind = parts[-1]
    yes, no = t.value(operands[1], kind), t.value(operands[2], kind)
    t.assign(operands[0], f'{t.value(operands[3], "pred")} ? {yes} : {no}', kind)


ROUNDINGS = {'rni': 'std::nearbyint', 'rzi': 'std::trunc', 'rmi': 'std::floor', 'rpi': 'std::ceil'}


def convert(t, parts, operands):
    target, source = parts[-2:]
    if target == 'bf16x2':
        text = f'pack_bf16({t.value(operands[1], "f32")}, {t.value(operands[2], "f32")})'
        return t.assign(operands[0], text, 'b32')
    if target == 'bf16' and is_float(source) and 'rn' in parts:
        return t.assign(operands[0], f'to_bf16({t.value(operands[1], source)})', 'b16')
    if target == 'f32' and source == 'bf16':
        return t.assign(operands[0], f'as_float(uint32_t({t.value(operands[1], "u16")}) << 16)', 'f32')
    if target not in SCALARS or source not in SCALARS or target in ('f16', 'bf16') or source in ('f16', 'bf16'):
        raise NotTranslated
    text = t.value(operands[1], source)
    rounding = next((ROUNDINGS[part] for part in parts if part in ROUNDINGS), None)
    if rounding:
        text = f'{rounding}({text})'
    if is_float(source) and not is_float(target):
        text = f'to_integer<{CPP[target]}>({text})'
    elif 'sat' in parts:
        text = f'saturated({text})' if is_float(target) else f'clamped<{CPP[target]}>({text})'
    return t.assign(operands[0], f'static_cast<{CPP[target]}>({text})', target)


# --- control ---
def jump(t, parts, operands):
    t.emit(f'goto label_v_{re.sub(r"[^A-Za-z0-9_]", "_", operands[0])};')


def leave(t, parts, operands):
    t.emit('return;')


def call(t, parts, operands):
    lists = [elements_of_call(operand) for operand in operands if operand.startswith('(')]
    results = lists.pop(0) if operands[0].startswith('(') else []
    arguments = lists[0] if lists else []
    name = next(operand for operand in operands if not operand.startswith('('))
    addresses = ', '.join(f'call_{argument}' for argument in arguments)
    if not any(function.name == name for function in t.module.functions):
        raise NotTranslated
    passed = ''.join(f', call_{result}' for result in results)
    t.emit(f'{{ const void* const passed[] = {{{addresses}}}; '
           f'function_{re.sub(r"[^A-Za-z0-9_]", "_", name)}(passed{passed}); }}')


def elements_of_call(operand):
    return [part for part in re.split(r'[\s,()]+', operand) if part]


def nothing(t, parts, operands):
    """A hint."""


TABLE = {
    'ld': load, 'ldu': load, 'st': store, 'mov': move, 'cvta': convert_address, 'atom': atomic, 'red': atomic,
    'add': binary, 'sub': binary, 'and': binary, 'or': binary, 'xor': binary, 'mul': multiply, 'mad': multiply,
    'fma': fused, 'div': divide, 'rem': divide, 'min': smaller_or_larger, 'max': smaller_or_larger,
    'neg': negate, 'abs': absolute, 'not': complement, 'copysign': copy_sign, 'shl': shift, 'shr': shift,
    'shf': funnel_shift, 'prmt': permute_bytes, 'bfind': find_bit, 'setp': compare, 'selp': select,
    'cvt': convert, 'bra': jump, 'ret': leave, 'exit': leave, 'call': call,
    'rcp': call_of('reciprocal'), 'sqrt': call_of('std::sqrt'), 'rsqrt': call_of('reciprocal_root'),
    'ex2': call_of('std::exp2'), 'lg2': call_of('std::log2'), 'sin': call_of('std::sin'),
    'cos': call_of('std::cos'), 'tanh': call_of('std::tanh'),
    'popc': bits_call('std::popcount', ['bits']), 'clz': bits_call('std::countl_zero', ['bits']),
    'brev': bits_call('reverse_bits', ['bits']), 'bfe': bits_call('extract_bits', ['own', 'u32', 'u32']),
    'bfi': bits_call('insert_bits', ['bits', 'bits', 'u32', 'u32']),
    'lop3': bits_call('combine_bits', ['u32', 'u32', 'u32', 'u32']),
    'prefetch': nothing, 'prefetchu': nothing, 'applypriority': nothing, 'griddepcontrol': nothing,
    'setmaxnreg': nothing, 'nanosleep': nothing,
}


def translate(t, text):
    """Emits one instruction, without its guard. NotTranslated if it is not known."""
    import ptx_collectives  # which uses this module
    name, _, rest = text.partition(' ')
    parts, operands = name.split('.'), split_operands(rest)
    if ptx_collectives.translate(t, name, parts, operands):
        return
    if parts[0] not in TABLE:
        raise NotTranslated
    TABLE[parts[0]](t, parts, operands)
